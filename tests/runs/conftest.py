"""What the tests of runs share: a run's folder as a search leaves it, made by the strategy, without Ray."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep import atomic_files
from raysweep.config import Budget, TrainingConfig
from raysweep.data.images import DataInfo
from raysweep.evaluate.test_figures import TestFigures
from raysweep.run_folder import RunFolder
from raysweep.search.ranking import rank_results
from raysweep.search.results import Results, save_results
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_record import save_config
from raysweep.trial_result import Params, TrialResult

NUM_TRIALS = 20
FAILING = 6
"""Number of the trial that fails."""
SPACE = {
    "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "task.optimizer": CategoricalDistribution(("adam", "sgd")),
    "training.epochs": IntDistribution(6, 20),
}
POINT = {"task.learning_rate": 0.0005}


def value_after(params: Params, epoch: int) -> float:
    """A curve that rises to an end that is best at a learning rate of 1e-3."""
    end: float = 0.9 - 0.3 * abs(math.log10(params["task.learning_rate"]) + 3) + 0.002 * params["training.epochs"]
    return end - 0.4 * math.exp(-5 * epoch / params["training.epochs"])


def _run_trial(strategy: Strategy, folder: RunFolder, info: DataInfo, number: int, params: Params) -> TrialResult:
    """Runs a trial as a driver would, and leaves what it would leave in its folder."""
    trial, state = folder.trial(number), "COMPLETE"
    save_config(trial.config, number, strategy.trial_config(number, params), info, params)
    values: list[float] = []
    for epoch in range(1, params["training.epochs"] + 1):
        if number == FAILING and epoch == 3:
            state = "FAIL"
            break
        values.append(value_after(params, epoch))
        if strategy.report(number, epoch, values[-1]):
            state = "PRUNED"
            break
    rows: list[Mapping[str, Any]] = [
        {"epoch": float(epoch), "val/accuracy": value, "train/images_per_s": 100.0, "train/data_wait_s": 0.1}
        for epoch, value in enumerate(values, start=1)
    ]
    atomic_files.write_json_lines(trial.metrics, rows)
    for path in (trial.weights, *([trial.checkpoint] if state == "FAIL" else [])):
        path.parent.mkdir()
        path.write_bytes(b"w" * 1000)
    if state == "FAIL":
        trial.error.write_text("Traceback ...")
    result = TrialResult(
        number=number,
        state=state,  # type: ignore[arg-type]
        value=max(values),
        best_epoch=values.index(max(values)) + 1,
        params=params,
        duration_s=float(len(values)),
        error="train/loss is nan" if state == "FAIL" else None,
    )
    strategy.tell(result)
    return result


def _save_results(
    build_results: Callable[..., Results],
    folder: RunFolder,
    study: Study,
    trials: list[TrialResult],
    info: DataInfo,
    right: str,
) -> None:
    share = right.count("1") / len(right)
    best = rank_results(trials, study.objectives)[0]
    test = TestFigures(
        num_images=len(right),
        report="classification_report.txt",
        headline=f"test accuracy {share:.4f}",
        lift={"text": "+0.1 accuracy", "difference": 0.1, "low": 0.05, "high": 0.15},
        baseline={"accuracy": 0.5},
        own={"accuracy": share},
    )
    found = {"study": study.name, "objective": study.objective, "best": best, "test": test, "data": info}
    save_results(folder, build_results(trials, **found))
    lines = [f"{row}.png,a,{'a' if answer == '1' else 'b'},0.9" for row, answer in enumerate(right)]
    atomic_files.write_text(folder.test / "predictions.csv", "\n".join(["image,true,predicted,confidence", *lines]))
    atomic_files.write_text(folder.test / test.report, "report\n")
    folder.best.path.mkdir()
    folder.best.weights.write_bytes(b"w" * 1000)
    save_config(folder.best.config, best.number, study.trial_config(best.params, best.number), info, best.params)


@pytest.fixture(scope="session")
def make_run(
    make_study: Callable[..., Study], begin_run: Callable[..., Strategy], build_results: Callable[..., Results]
) -> Callable[..., RunFolder]:
    """`(folder, right="1101110", digest="d1", num_trials=20, end="finished", **changes)` -> a run's folder.

    right: 1 for each test image that the best model labels right. end: `finished`; `search` where the final evaluation
    is still to come; `trial` where one trial more is under way. changes: of the study.
    """

    def make(
        path: Path,
        right: str = "1101110",
        digest: str = "d1",
        num_trials: int = NUM_TRIALS,
        end: Literal["finished", "search", "trial"] = "finished",
        **changes: Any,
    ) -> RunFolder:
        values = {"training": TrainingConfig(epochs=12), "space": SPACE, "conditions": (), "points": (POINT,)}
        study, folder = make_study(**{**values, "budget": Budget(trials=num_trials), **changes}), RunFolder(path)
        info = DataInfo(
            source="drawn",
            synthetic=True,
            digest=digest,
            classes=("a", "b"),
            num_train=50,
            num_val=9,
            num_test=len(right),
        )
        strategy = begin_run(folder, study, digest)
        trials = []
        while (proposal := strategy.propose()) is not None:
            number, params = proposal
            if end == "trial" and number == num_trials - 1:
                save_config(folder.trial(number).config, number, strategy.trial_config(number, params), info, params)
                strategy.report(number, 1, 0.3)
                folder.trial(number).last.mkdir()
                folder.trial(number).checkpoint.write_bytes(b"c" * 5000)
                break
            trials.append(_run_trial(strategy, folder, info, number, params))
        if end == "finished":
            _save_results(build_results, folder, study, trials, info, right)
        return folder

    return make


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., RunFolder]) -> RunFolder:
    """A finished run of 20 trials, which tests only read."""
    return make_run(tmp_path_factory.mktemp("finished") / "cars")
