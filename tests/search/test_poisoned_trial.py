"""An error that ruins a process's CUDA context, in a trial on a real Ray: the process ends, and its trial goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.cluster.capacity import Request
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.file_guard import read_json_lines
from raysweep.registry import load_object
from raysweep.run_folder import SearchFolder
from raysweep.search.launch import SearchContext, launch_trials
from raysweep.search.session.storage import open_storage
from raysweep.search.strategy.strategy import create_strategy
from raysweep.study import Study

pytestmark = pytest.mark.ray

TASK = """
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import torch
from raysweep.registry import load_object

BrightnessConfig, BrightnessTask = (load_object({file!r} + name) for name in (":BrightnessConfig", ":BrightnessTask"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PoisonedConfig(BrightnessConfig):
    kind: ClassVar[str] = "poisoned"
    task: ClassVar[str] = f"{{__name__}}:PoisonedTask"


class PoisonedTask(BrightnessTask):
    def compute_loss(self, state, batch):
        with open({log!r}, "a") as log:
            print(os.getpid(), file=log)
        if state.epoch == 2 and not Path({once!r}).exists():
            Path({once!r}).touch()
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        return super().compute_loss(state, batch)
"""
NUM_EPOCHS = 4


def test_a_process_with_a_ruined_context_ends_and_its_trial_goes_on_in_another(
    ray_local: None,
    tmp_path: Path,
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two trials one after the other: neither trains in the process that the error has ruined."""
    log, once = tmp_path / "processes", tmp_path / "once"
    file = Path(__file__).parents[1] / "plugins" / "brightness.py"
    (tmp_path / "poisoned.py").write_text(TASK.format(file=str(file), log=str(log), once=str(once)))
    data = save_prepared(tmp_path / "data", {"train": draw_squares(16, 1), "val": draw_squares(8, 2)}, "abcd")
    study = Study(
        name="poisoned",
        task=load_object(f"{tmp_path / 'poisoned.py'}:PoisonedConfig")(),
        data=DataConfig(image_size=28, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=NUM_EPOCHS, batch_size=16, precision="fp32", checkpoint_period_s=0),
        space={},
        objective=Objective(metric="val/loss", direction="minimize"),
        budget=Budget(trials=2),
    )
    folder = SearchFolder(tmp_path / "run")
    folder.path.mkdir()
    context = SearchContext(study=study, data=data, request=Request(), concurrency=1, folder=folder)
    strategy = create_strategy(study, open_storage(folder, None), study.name, pruner="none")
    launch_trials(context, strategy, [])
    first, second = strategy.results()
    assert (first.state, first.retries, second.state, second.retries) == ("COMPLETE", 1, "COMPLETE", 0)
    for number in (0, 1):
        epochs = [row["epoch"] for row in read_json_lines(folder.trial(number).metrics)]
        assert epochs == list(range(1, NUM_EPOCHS + 1))
    processes = log.read_text().split()
    ruined, *later = processes[2:]
    assert processes[:2] == [ruined, ruined]
    assert len(later) == 2 + NUM_EPOCHS
    assert ruined not in later
    told = capsys.readouterr().err
    assert "trial 0: its process died (AcceleratorError: CUDA error: device-side assert triggered); it goes on" in told
