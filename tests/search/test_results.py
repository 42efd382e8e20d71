"""results.json: written and read without a loss, also by the keys of files from before there were versions."""

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysweep.errors import CorruptFileError, UsageError
from raysweep.evaluate.test_figures import TestFigures
from raysweep.run_folder import RunFolder
from raysweep.search.reevaluate import find_baseline_failure
from raysweep.search.results import SCHEMA_VERSION, Results, load_results, save_results


def old_trial(number: int, value: Any, **changes: Any) -> dict[str, Any]:
    params = {"task.learning_rate": 0.001, "task.optimizer": "adam", "training.epochs": 2}
    values = {"number": number, "state": "COMPLETE", "value": value, "best_epoch": 2, "params": params}
    return {**values, "duration_s": 9.986, "error": None, "retries": 0, "node_losses": 0, **changes}


FAILED = old_trial(2, None, state="FAIL", best_epoch=None, error="train/loss is nan", retries=1)
OLD: dict[str, Any] = {
    "study": "fashion_cnn",
    "objective": {"metric": "val/accuracy", "direction": "maximize"},
    "max_epochs": 2,
    "trials": [old_trial(0, 0.66), old_trial(1, 0.82), FAILED],
    "best": old_trial(1, 0.82),
    "baseline": old_trial(0, 0.66),
    "finalists": None,
    "test": {
        "accuracy": 0.84,
        "num_images": 600,
        "report": "classification_report.txt",
        "headline": "test accuracy 0.8400",
        "baseline": {"accuracy": 0.685},
        "lift": {"difference": 0.155, "low": 0.1, "high": 0.2, "includes_zero": False, "text": "+0.1550 accuracy"},
        "rejection": {"sets": {"blank": {"auroc": 1.0}}, "missing": {}},
        "train_on_synthetic": None,
        "openings": 2,
        "synthetic": False,
    },
    "data": {
        "source": "fashion-mnist",
        "synthetic": False,
        "digest": "0d62",
        "classes": ["0", "1"],
        "num_train": 2401,
        "num_val": 599,
        "num_test": 600,
        "skipped": [{"path": "a/b.jpg", "split": "train", "reason": "empty file"}],
    },
    "machine": {"processor": "x86_64", "num_nodes": 1, "num_cpus": 2.0, "num_gpus": 0.0},
    "duration_s": 41.2,
}
"""As raysweep 0.1 wrote it before there were schema versions, with fewer fields of the task."""
CONFIGURATION = {
    "trial": 1,
    "params": {"task.learning_rate": 0.001},
    "search_value": 0.82,
    "runs": [1, 3],
    "values": [0.81, None],
    "errors": [None, "diverged"],
    "mean": None,
    "low": None,
    "high": None,
    "optimism": None,
}
FINALISTS = {
    "requested": 1,
    "seeds": 2,
    "intervals": "95%, over seeds",
    "configurations": [CONFIGURATION],
    "winner": None,
    "optimism": None,
    "lift": {"difference": 0.1, "low": 0.0, "high": 0.2, "includes_zero": True},
}
TWO = {
    "second_objective": {"metric": "model/num_parameters", "direction": "minimize"},
    "pareto_front": [1, 0],
    "trials": [old_trial(0, 0.66, values=[0.66, 100.0]), old_trial(1, 0.82, values=[0.82, 200.0])],
    "best": old_trial(1, 0.82, values=[0.82, 200.0]),
    "baseline": old_trial(0, 0.66, values=[0.66, 100.0]),
}


@pytest.mark.parametrize("changes", [{}, {"finalists": FINALISTS}, TWO, {"baseline": None, "max_epochs": None}])
def test_an_old_file_is_read_and_its_keys_are_written_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    old = {**OLD, **changes}
    folder = RunFolder(tmp_path)
    folder.results.write_text(json.dumps(old))
    results = load_results(folder)
    save_results(folder, results)
    new = {
        "schema_version": SCHEMA_VERSION,
        "test": {**OLD["test"], "baseline_failure": None, "durations_s": {}, "seeds": None},
        "data": {**OLD["data"], "notes": []},
    }
    written = json.loads(folder.results.read_text())
    assert len(written.pop("checksum")) == 16
    assert written == {**old, **new}
    assert load_results(folder) == results


def test_what_is_read_is_typed() -> None:
    results = Results.from_json({**OLD, "finalists": FINALISTS})
    assert [trial.state for trial in results.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert (results.trials[2].error, results.trials[2].retries) == ("train/loss is nan", 1)
    assert results.baseline is not None
    best, baseline = results.best.value, results.baseline.value
    assert best is not None
    assert baseline is not None
    assert results.objective.is_better(best, baseline)
    assert results.data.skipped[0].reason == "empty file"
    assert results.finalists is not None
    assert results.finalists.configurations[0].trainings == (1, 3)
    assert Results.from_json({**OLD, **TWO}).trials[0].second_value == 100.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        results.study = "another"  # type: ignore[misc]


def test_a_configuration_of_which_a_seed_failed_is_not_listed() -> None:
    whole = {**CONFIGURATION, "runs": [0, 2], "values": [0.7, 0.6], "mean": 0.65}
    failed = {**CONFIGURATION, "trial": 0}
    for baseline, winner, seeds in (
        ({**whole, "trial": 0}, 1, {"best": (0, 2), "baseline": (0, 2)}),
        (failed, 1, {"best": (0, 2)}),
        ({**whole, "trial": 0}, 0, {"best": (0, 2)}),
        (failed, None, {}),
    ):
        record = {**FINALISTS, "configurations": [baseline, whole], "winner": winner}
        found = Results.from_json({**OLD, "finalists": record}).finalists
        assert found is not None
        assert found.list_seeds() == seeds


def test_figures_of_the_task_are_read_like_the_common_ones() -> None:
    figures = Results.from_json(OLD).test
    assert (figures.num_images, figures.openings, figures.accuracy) == (600, 2, 0.84)
    assert figures.rejection["sets"]["blank"] == {"auroc": 1.0}
    with pytest.raises(AttributeError, match=r"no 'mse'; they have: num_images, .*accuracy"):
        _ = figures.mse
    for same in (pickle.loads(pickle.dumps(figures)), copy.deepcopy(figures), TestFigures.from_json(figures.to_json())):
        assert same == figures


FAILED_BASELINE = old_trial(0, None, state="FAIL", error="train/loss is nan")


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({}, None),
        ({"baseline": FAILED_BASELINE}, "train/loss is nan"),
        ({"baseline": {**FAILED_BASELINE, "error": None}}, "it has no complete trial"),
        ({"baseline": FAILED_BASELINE, "finalists": {**FINALISTS, "winner": 1}}, None),
        ({"test": {**OLD["test"], "baseline": None, "baseline_failure": "of its seeds"}}, "of its seeds"),
    ],
)
def test_why_an_old_run_has_no_baseline_is_found(changes: dict[str, Any], failure: str | None) -> None:
    """Beside a winner of the finalists the baseline is the best of its seeds, however trial 0 ended."""
    assert find_baseline_failure(Results.from_json({**OLD, **changes})) == failure


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": [old_trial(0, 0.5, state="LOST")]}, r"not a valid Results: trials\.0\.state"),
        ({"machine": {}}, r"not a valid Results: machine\.processor"),
        ({"test": {}}, "must hold the results of a run"),
        ({"test": {**OLD["test"], "report": "../study.json"}}, r"must be the name of a file in test/"),
        ({"best": old_trial(1, None)}, "the best trial must have a value"),
    ],
)
def test_what_is_no_results_file_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(UsageError, match="not the folder of a finished run"):
        load_results(folder)
    folder.results.write_text(json.dumps({**OLD, **changes}))
    with pytest.raises(CorruptFileError, match=message):
        load_results(folder)
    folder.results.write_text(json.dumps(OLD)[:-9])
    with pytest.raises(CorruptFileError, match="must hold the results of a run, got JSONDecodeError"):
        load_results(folder)


def test_a_file_of_a_later_version_is_not_taken(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.results.write_text(json.dumps({**OLD, "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UsageError, match="a later raysweep wrote it"):
        load_results(folder)


def test_results_are_read_without_torch_or_ray() -> None:
    code = "import sys, raysweep.search.results; print({'torch', 'ray', 'wandb', 'optuna'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "set()\n"
