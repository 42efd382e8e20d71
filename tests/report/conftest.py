"""What the tests of the report share: folders of runs as a search leaves them, at any time, but for the training."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from raysweep import atomic_files
from raysweep.cluster.capacity import Node
from raysweep.data.images import DataInfo, SkippedFile
from raysweep.evaluate.test_figures import TestFigures
from raysweep.run_folder import RunFolder
from raysweep.search.finalists.retraining import open_retraining
from raysweep.search.overrides import Overrides
from raysweep.search.ranking import rank_results
from raysweep.search.results import Machine, Results, save_results
from raysweep.search.session.identity import load_record
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_record import save_config
from raysweep.trial_result import TrialResult

EVIL = "<img src=x onerror=alert(1)>"
"""A name that would be HTML, were it not escaped."""
INFO = DataInfo(
    source="drawn",
    synthetic=True,
    digest="0" * 64,
    classes=("cat", EVIL),
    num_train=80,
    num_val=20,
    num_test=20,
    skipped=(SkippedFile(path=f"{EVIL}.jpg", split="train", reason="cut off"),),
)
ACCURACY = {
    "num_images": 20,
    "report": "report.txt",
    "headline": "test accuracy 0.9000",
    "accuracy": 0.9,
    "baseline": {"accuracy": 0.6},
    "lift": {"text": "+0.3", "difference": 0.3, "low": 0.1, "high": 0.5, "includes_zero": False},
}


class RecordedRun:
    """Plays the driver of a search whose trials are made up."""

    def __init__(
        self, folder: RunFolder, study: Study, strategy: Strategy, build_results: Callable[..., Results]
    ) -> None:
        self.folder, self.study, self.strategy, self.build_results = folder, study, strategy, build_results

    def start(self, num_epochs: int | None = None) -> int:
        """Begins a trial and trains all of its epochs, or so many."""
        proposal = self.strategy.propose()
        assert proposal is not None
        number, params = proposal
        config, trial = self.strategy.trial_config(number, params), self.folder.trial(number)
        save_config(trial.config, number, config, INFO, params)
        self.epochs = range(1, (num_epochs or config.training.epochs) + 1)
        rows = [{"epoch": float(epoch), **self.compute(number, epoch)} for epoch in self.epochs]
        atomic_files.write_json_lines(trial.metrics, list(rows))
        for row in rows:
            self.strategy.report(number, int(row["epoch"]), row[self.study.objective.metric])
        return number

    def compute(self, number: int, epoch: int) -> dict[str, float]:
        value = (0.5 + 0.3 * math.sin(number)) * (1 - math.exp(-epoch / 2))
        speed = {"train/images_per_s": 100.0 + number, "train/data_wait_s": 0.08}
        return {"val/accuracy": value, "val/loss": 1 - value, **speed}

    def end(self, number: int, state: Any = "COMPLETE", error: str | None = None) -> None:
        last = self.epochs[-1]
        result = TrialResult(
            number=number,
            state=state,
            value=self.compute(number, last)["val/accuracy"],
            second_value=None if self.study.second_objective is None else 1000.0 * (number + 1),
            best_epoch=last,
            params={},
            duration_s=10.0 + number,
            error=error,
        )
        self.strategy.tell(result)

    def finish(self, **test: Any) -> Results:
        """Writes results.json, with these test figures instead of an accuracy."""
        trials = self.strategy.results()
        results = self.build_results(
            trials,
            study=self.study.name,
            objective=self.study.objective,
            second_objective=self.study.second_objective,
            best=rank_results(trials, self.study.objectives)[0],
            test=TestFigures.from_json({**ACCURACY, **test}),
            data=INFO,
            machine=Machine.describe([Node(num_cpus=2)], price_per_hour=3.6),
            duration_s=1000.0,
        )
        save_results(self.folder, results)
        return results


@pytest.fixture(scope="module")
def record_run(
    tmp_path_factory: pytest.TempPathFactory,
    make_study: Callable[..., Study],
    begin_run: Callable[..., Strategy],
    build_results: Callable[..., Results],
) -> Callable[..., RecordedRun]:
    """`(name, **changes of the study)` -> a run in a folder of its own, in which no trial has begun."""

    def record(name: str, **changes: Any) -> RecordedRun:
        folder, study = RunFolder(tmp_path_factory.mktemp("storage") / name), make_study(**changes)
        overrides = Overrides(trials=study.budget.trials, settings=("task.dropout=0.5",), sampler="random")
        strategy = begin_run(folder, study, INFO.digest, overrides=overrides)
        return RecordedRun(folder, study, strategy, build_results)

    return record


@pytest.fixture(scope="module")
def finished(record_run: Callable[..., RecordedRun]) -> RunFolder:
    """A finished run of twelve trials; one has failed with a cause that would be HTML, one was stopped early."""
    run = record_run("finished")
    for _ in range(12):
        number = run.start()
        run.end(number, *{3: ("FAIL", f"ValueError: {EVIL}\nmore"), 5: ("PRUNED",)}.get(number, ()))
    run.folder.trial(3).error.write_text(f"Traceback\n  {EVIL}")
    run.finish()
    return run.folder


@pytest.fixture(scope="module")
def under_way(record_run: Callable[..., RecordedRun]) -> RunFolder:
    """A search with seven ended trials, and one in its fourth epoch."""
    run = record_run("under_way")
    for _ in range(7):
        run.end(run.start())
    run.start(num_epochs=4)
    return run.folder


@pytest.fixture(scope="module")
def retrained(record_run: Callable[..., RecordedRun]) -> RunFolder:
    """A search of three trials, one failed, and four trainings of its best two: one failed, one under way."""
    run = record_run("retrained")
    for state in ("COMPLETE", "COMPLETE", "FAIL"):
        run.end(run.start(), state, None if state == "COMPLETE" else "ValueError: a bad point")
    run.folder.trial(2).error.write_text("Traceback of the trial")
    record = load_record(run.folder)
    assert record is not None
    chosen = run.strategy.results()[:2]
    retraining = open_retraining(run.study, run.folder, record.identity, chosen, 2)
    again = RecordedRun(RunFolder(run.folder.finalists.path), run.study, retraining, run.build_results)
    for state in ("COMPLETE", "FAIL", "COMPLETE"):
        again.end(again.start(2), state, None if state == "COMPLETE" else "ValueError: it diverged")
    run.folder.finalists.trial(1).error.write_text("Traceback of the finalist")
    again.start(1)
    return run.folder
