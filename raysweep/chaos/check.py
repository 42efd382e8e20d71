"""Checks that a search that was disturbed has ended as the one that was left alone: trials, epochs, metrics, result."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna

from raysweep.file_guard import read_json_lines
from raysweep.run_folder import RunFolder
from raysweep.search.results import load_results
from raysweep.search.session.identity import load_record
from raysweep.search.session.storage import open_storage
from raysweep.train.history import OF_MACHINES

TOLERANCE = 1e-4
"""Relative. One seed gives the same metrics on the same CPU; sums of a GPU or another CPU differ by less than this, an
epoch that is lost, or trained on from another state, changes them by more."""


def compare_runs(run: RunFolder, alone: RunFolder) -> list[str]:
    """Lists what is not as in the run that was left alone; empty: nothing.

    Raises:
        RaysweepError: one of them is not finished.
    """
    record = load_record(run)
    if record is None:
        return ["study.json is missing"]
    study = optuna.load_study(study_name=record.identity.study_name, storage=open_storage(run, None))
    return [
        *_compare_results(run, alone),
        *(
            problem
            for number in range(len(load_results(alone).trials))
            for problem in _compare_histories(number, run, alone)
        ),
        *check_journal(study.trials, run),
        *_check_remains(run),
    ]


def count_epochs(run: RunFolder) -> tuple[int, int]:
    """Counts the trials of a run and the epochs that their histories have in all."""
    histories = [read_json_lines(trial.metrics) for trial in run.list_trials()]
    return len(histories), sum(map(len, histories))


def _compare_results(run: RunFolder, alone: RunFolder) -> Iterator[str]:
    results, expected = load_results(run), load_results(alone)
    told = [(trial.number, trial.state, trial.best_epoch, trial.params) for trial in results.trials]
    expected_trials = [(trial.number, trial.state, trial.best_epoch, trial.params) for trial in expected.trials]
    if told != expected_trials:
        yield f"results.json has the trials {told}, alone {expected_trials}"
    if results.best.number != expected.best.number:
        yield f"the best trial is {results.best.number}, alone {expected.best.number}"


def _compare_histories(number: int, run: RunFolder, alone: RunFolder) -> Iterator[str]:
    """Compares the epochs of a trial: each once, in order, with the same metrics."""
    rows = read_json_lines(run.trial(number).metrics)
    expected = read_json_lines(alone.trial(number).metrics)
    epochs, wanted = ([int(row["epoch"]) for row in some] for some in (rows, expected))
    if epochs != wanted:
        yield f"trial {number} has the epochs {epochs}, alone {wanted}"
        return
    for row, other in zip(rows, expected, strict=True):
        yield from (f"trial {number}, epoch {row['epoch']:.0f}: {text}" for text in compare_metrics(row, other))


def compare_metrics(row: Mapping[str, float], expected: Mapping[str, float]) -> list[str]:
    """Lists the metrics of an epoch that are not as expected."""
    if row.keys() != expected.keys():
        return [f"metrics {sorted(row)}, alone {sorted(expected)}"]
    return [
        f"{name} is {row[name]:.6g}, alone {expected[name]:.6g}"
        for name in sorted(expected.keys() - OF_MACHINES)
        if not math.isclose(row[name], expected[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE**2)
    ]


def check_journal(trials: Sequence[Any], run: RunFolder) -> Iterator[str]:
    """Compares the Optuna study with the histories: every epoch is reported once, with its value."""
    results = load_results(run)
    if [trial.number for trial in trials] != [trial.number for trial in results.trials]:
        yield f"the Optuna study has the trials {[trial.number for trial in trials]}"
    for trial in trials:
        history = read_json_lines(run.trial(trial.number).metrics)
        expected = {int(row["epoch"]): row[results.objective.metric] for row in history}
        if trial.intermediate_values != expected:
            yield f"trial {trial.number} has reported {trial.intermediate_values}, its history has {expected}"


def _check_remains(run: RunFolder) -> Iterator[str]:
    """Finds files that should be gone, or should be there."""
    if not run.best.weights.is_file():
        yield "best/ has no model"
    for trial in run.list_trials():
        if trial.last.exists():
            yield f"{trial.last} is left"
    if run.untold.exists():
        yield "not all were told of the results"
    if (openings := len(read_json_lines(run.openings))) != 1:
        yield f"the test split was opened {openings} times"
