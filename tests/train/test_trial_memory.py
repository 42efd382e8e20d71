"""What a trial held is given back when the next one begins in its process, however it ended."""

import contextlib
import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from raysweep.cluster.capacity import Request
from raysweep.config import Objective
from raysweep.data.images import PreparedData
from raysweep.run_folder import SearchFolder
from raysweep.train import loop
from raysweep.train.report import EpochReport, unpack_report
from raysweep.train.task import build_task
from raysweep.train.trial import TrialSpec, run_trial
from raysweep.trial_config import TrialConfig

NUM_EPOCHS = 2


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    yield
    gc.unfreeze()


def run(spec: TrialSpec) -> None:
    """Runs a trial in a thread of its own, as Ray Tune does."""

    def run_and_end() -> None:
        with contextlib.suppress(SystemExit):
            run_trial({"spec": spec})

    thread = threading.Thread(target=run_and_end)
    thread.start()
    thread.join()


def report_as_tune_does(message: dict[str, Any]) -> None:
    """Ends the thread of a trial that is finished, as Ray Tune does when it reuses the process."""
    report = unpack_report(message)
    if isinstance(report, EpochReport) and report.finished:
        raise SystemExit


@pytest.mark.parametrize("ending", ["finished", "stopped", "failed"])
def test_a_trial_is_gone_when_the_next_one_begins(
    tmp_path: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    """A schedule and its optimizer refer to each other, and the optimizer to the weights."""
    optimizers: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def build(*arguments: Any) -> Any:
        alive.append(sum(optimizer() is not None for optimizer in optimizers))
        task = build_task(*arguments)
        init_state = task.init_state

        def watch(*arguments: Any) -> Any:
            state = init_state(*arguments)
            optimizers.append(weakref.ref(state.optimizers["model"]))
            return state

        monkeypatch.setattr(task, "init_state", watch)
        if ending == "failed":
            monkeypatch.setattr(task, "evaluate", lambda *_: {})
        return task

    monkeypatch.setattr(loop, "build_task", build)
    monkeypatch.setattr(tune, "report", report_as_tune_does)
    (tmp_path / "trials").mkdir()
    data = make_data(num_train=8, num_val=4)
    spec = TrialSpec(
        number=0,
        config=make_config(epochs=NUM_EPOCHS, schedule="cosine"),
        data=data,
        objective=Objective(metric="val/loss", direction="minimize"),
        folder=SearchFolder(tmp_path).trial(0),
        request=Request(),
        scratch=tmp_path,
    )
    for number in range(4):
        folder = SearchFolder(tmp_path).trial(number)
        folder.path.mkdir()
        if ending == "stopped":
            folder.stop_file.touch()
        run(dataclasses.replace(spec, number=number, folder=folder))
    assert len(optimizers) == 4
    assert alive == [0, 0, 0, 0]
