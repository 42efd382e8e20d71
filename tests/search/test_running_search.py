"""A search on Ray that is told what to do while it runs: it obeys, and what it leaves is to be gone on with."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

import raysweep
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.file_guard import read_json_lines
from raysweep.run_folder import RunFolder
from raysweep.search.control_files import Command, send_command
from raysweep.search.progress import Snapshot
from raysweep.search.session.identity import load_record
from raysweep.search.session.storage import open_storage
from raysweep.search.status import look_at_run
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tracking.wandb_log import read_records
from raysweep.train.checkpoint import load_tensors
from raysweep.train.state import from_tensors

pytestmark = pytest.mark.ray
LIMIT_S = 200.0


def wait(folder: RunFolder, condition: Callable[[Snapshot], Any]) -> None:
    """Waits until the run's status says so."""
    limit = time.monotonic() + LIMIT_S
    while True:
        written = look_at_run(folder).written if folder.status.is_file() else None
        if written is not None and written.search is not None and condition(written.search):
            return
        assert time.monotonic() < limit, written
        time.sleep(0.1)


@pytest.mark.usefixtures("ray_local")
def test_a_running_search_obeys(
    tmp_path: Path, make_image_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(
        name="told",
        task=ClassificationConfig(model="fashion_cnn"),
        data=DataConfig(source=str(make_image_folder(tmp_path / "images", 2, 30)), image_size=32),
        training=TrainingConfig(epochs=5000, batch_size=16, precision="fp32", checkpoint_period_s=3600),
        space={"task.learning_rate": FloatDistribution(1e-5, 1e-3, log=True)},
        objective=Objective(metric="val/loss", direction="minimize"),
        budget=Budget(trials=2),
    )
    folder = RunFolder(tmp_path / "results" / "told")
    answers: list[str] = []

    def tell() -> None:
        def send(verb: str, *arguments: str) -> None:
            answers.append(send_command(folder, Command(verb=verb, arguments=arguments)))

        wait(folder, lambda search: any(trial.number == 1 and trial.epoch > 1 for trial in search.running))
        send("add-point", "task.learning_rate=1e-4")
        send("trials", "3")
        send("stop-trial", "1")
        wait(folder, lambda search: any(trial.number == 2 and trial.epoch for trial in search.running))
        send("stop")

    told = threading.Thread(target=tell)
    told.start()
    with pytest.raises(KeyboardInterrupt):
        raysweep.tune(study, storage=tmp_path / "results", address="local", wandb="offline", pruner="none")
    told.join()
    assert len(answers) == 4

    storage = open_storage(folder, None)
    (study_id,) = (study._study_id for study in storage.get_all_studies())
    trials = storage.get_all_trials(study_id)
    assert [trial.state for trial in trials] == [TrialState.RUNNING, TrialState.PRUNED, TrialState.RUNNING]
    assert trials[2].params == {"task.learning_rate": 1e-4}
    for number in (0, 2):
        tensors, plain = load_tensors(folder.trial(number).checkpoint)
        counters = from_tensors(plain, tensors)["counters"]
        assert counters["epoch"] == len(read_json_lines(folder.trial(number).metrics)), "no epoch is lost"
    record = load_record(folder)
    assert record is not None
    assert record.identity.overrides.trials == 3
    assert look_at_run(folder).state == "interrupted"
    (log,) = folder.wandb.glob("offline-run-*-study/*.wandb")
    rows = [item for row in read_records(log) if row.HasField("history") for item in row.history.item]
    assert {item.value_json for item in rows if "trials/planned" in (item.key, *item.nested_key)} == {"3"}
    said = capsys.readouterr().err
    for line in ("decoding: 60 images", "search: 2 trials, ", " trial 1 stopped early, val/loss ", "1 of 3 trials: "):
        assert line in said
