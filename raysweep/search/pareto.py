"""Describes and draws the Pareto front of a study with two objectives."""

import sys

from raysweep.config import Objective, format_value
from raysweep.errors import first_line
from raysweep.evaluate.figures.pareto import save_pareto_front
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.search.retention import KEEP_FRONT
from raysweep.storage_faults import say
from raysweep.study import Study
from raysweep.trial_result import BASELINE, TrialResult


def announce_two_objectives(study: Study) -> None:
    """Says on stderr, where there are two objectives, that no trial will be stopped early."""
    if study.second_objective is not None:
        print(
            f"two objectives, {study.objective.metric} and {study.second_objective.metric}: the search stops no trial "
            "early, as Optuna takes no intermediate values then",
            file=sys.stderr,
        )


def describe_front(results: Results) -> list[str]:
    """Returns the front as a table for a person; no lines with one objective."""
    if results.second_objective is None:
        return []
    trials = {trial.number: trial for trial in results.trials}
    rows = [["trial", results.objective.metric, results.second_objective.metric]]
    rows += [[str(number), *map(format_value, _get_values(trials[number]))] for number in results.pareto_front]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"Pareto front of {len(rows) - 1} trials; the models of {KEEP_FRONT} at most are in trials/*/best:",
        *("  " + "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows),
    ]


def draw_front(folder: RunFolder, results: Results) -> None:
    """Draws the front into the folder of the final evaluation; with one objective there is none. Never fails a run."""
    if results.second_objective is None:
        return
    try:
        _draw_front(folder, results, results.objective, results.second_objective)
    except Exception as error:  # the results are whole without it
        say(
            f"{folder.pareto_front} could not be drawn ({type(error).__name__}: {first_line(error)}); nothing else is "
            "lost, and the report draws the front for itself"
        )


def _draw_front(folder: RunFolder, results: Results, first: Objective, second: Objective) -> None:
    save_pareto_front(
        folder.pareto_front,
        {trial.number: _get_values(trial) for trial in results.trials if trial.state == "COMPLETE"},
        list(results.pareto_front),
        first=first,
        second=second,
        baseline=BASELINE,
        title=f"{results.study}: {first.metric} against {second.metric}",
        note="synthetic data: drawn by raysweep, not photographs" if results.data.synthetic else "",
    )


def _get_values(trial: TrialResult) -> tuple[float, float]:
    """Returns both objectives of a complete trial."""
    assert trial.value is not None
    assert trial.second_value is not None
    return trial.value, trial.second_value
