"""What the tests of trackers share: a run to record, and a search of two trials to follow."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import wandb

from raysweep import atomic_files
from raysweep.data.images import DataInfo
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.study import Study
from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.tracker import Tracker
from raysweep.tracking.wandb_runs import WandbRuns
from raysweep.trial_result import TrialResult

DATA = DataInfo(
    source="drawn", synthetic=True, digest="12ab34cd56ef78", classes=("a",), num_train=8, num_val=4, num_test=4
)
BUILD = Callable[[Path], TrackedRun]


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives each test settings of W&B that are read anew, and no proxy."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture(scope="session")
def tracked_run(make_study: Callable[..., Study]) -> BUILD:
    """`(folder)` -> a run in it."""
    study = make_study()
    return lambda folder: TrackedRun(folder=RunFolder(folder), run_id="abc", name="small", study=study, data=DATA)


@pytest.fixture(scope="session")
def train() -> Callable[..., TrialResult]:
    """`(tracker, number, state="COMPLETE", epochs=(1, 2), ends=True)` -> how a trial ended; the tracker was told of it.

    The metrics of its epochs lie in the trial's folder, as a trial's own process leaves them.
    """

    def train(
        tracker: Tracker,
        number: int,
        state: Literal["COMPLETE", "FAIL"] = "COMPLETE",
        epochs: tuple[int, ...] = (1, 2),
        ends: bool = True,
    ) -> TrialResult:
        folder = tracker.backend.run.folder.trial(number)
        params = {"task.learning_rate": 0.1}
        tracker.trial_started(number, {"training": {"epochs": max(epochs)}}, params)
        for epoch in epochs:
            rows: list[Any] = [{"epoch": float(each), "val/accuracy": each / 10} for each in range(1, epoch + 1)]
            atomic_files.write_json_lines(folder.metrics, rows)
            tracker.epoch_ended(number, rows[-1])
        result = TrialResult(
            number=number,
            state=state,
            value=max(epochs) / 10 if state == "COMPLETE" else None,
            best_epoch=max(epochs),
            params=params,
            duration_s=1.0,
            error=None if state == "COMPLETE" else "TrialError: NaN",
        )
        if ends:
            tracker.trial_ended(result)
        return result

    return train


@pytest.fixture(scope="session")
def finish(build_results: Callable[..., Results]) -> Callable[[Tracker, list[TrialResult]], Results]:
    """`(tracker, trials)` -> the results of a search, of which the tracker was told."""

    def finish(tracker: Tracker, trials: list[TrialResult]) -> Results:
        folder = tracker.backend.run.folder
        atomic_files.write_text(folder.best.weights, "weights")
        atomic_files.write_text(folder.best.config, "{}")
        atomic_files.write_text(folder.test / "report.txt", "precision 0.5")
        (folder.test / "predictions.csv").write_text("image,true,predicted,confidence\na.jpg,a,a,0.9\n")
        folder.report.write_text("<!doctype html><title>The report</title>")
        results = build_results(trials, data=DATA)
        tracker.search_ended(results)
        return results

    return finish


@pytest.fixture(scope="session")
def resumed(
    tmp_path_factory: pytest.TempPathFactory,
    tracked_run: BUILD,
    train: Callable[..., TrialResult],
    finish: Callable[..., Results],
) -> Path:
    """A run whose second trial was stopped in its third epoch, of which W&B heard of two, and went on to its fifth."""
    tmp_path = tmp_path_factory.mktemp("resumed")
    before = Tracker(WandbRuns(tracked_run(tmp_path), "offline"))
    first = train(before, 0)
    train(before, 1, epochs=(1, 2), ends=False)
    before.close()
    assert before.backend.problem is None
    metrics = before.backend.run.folder.trial(1).metrics
    rows = [{"epoch": float(epoch), "val/accuracy": epoch / 10} for epoch in (1, 2, 3)]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    time.sleep(1.1)  # W&B names the folder of a part after the second in which it begins
    after = Tracker(WandbRuns(tracked_run(tmp_path), "offline"), [first])
    finish(after, [first, train(after, 1, epochs=(4, 5))])
    assert after.backend.problem is None
    return tmp_path
