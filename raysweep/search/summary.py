"""Describes a finished study for a person, on stdout."""

from collections import Counter

from raysweep import file_guard
from raysweep.config import format_value
from raysweep.distributions import to_setting
from raysweep.run_folder import RunFolder
from raysweep.search.finalists.statistics import describe_finalists
from raysweep.search.pareto import describe_front
from raysweep.search.ranking import rank_results
from raysweep.search.results import Results
from raysweep.stages import format_duration

WRITE_AGAIN = "`raysweep evaluate RUN` writes it again"
_ENDS = {"FAIL": "failed", "COMPLETE": "ended early", "PRUNED": "was stopped"}


def describe_results(results: Results, folder: RunFolder, sync_command: str | None = None) -> str:
    """Returns the test report, and the results in a few lines for a person.

    sync_command: what uploads offline W&B runs; none: there are none.
    """
    test, best, data, trials = results.test, results.best, results.data, results.trials
    assert best.value is not None  # it completed
    counts = Counter(trial.state for trial in trials)
    lines = [
        file_guard.read_text(folder.test / test.report, "the report of a run", WRITE_AGAIN).rstrip(),
        "",
        f"{results.study}: {len(trials)} trial{'s' * (len(trials) != 1)}, {counts['COMPLETE']} complete, "
        f"{counts['PRUNED']} stopped early, {counts['FAIL']} failed; the last session took "
        f"{format_duration(results.duration_s)}",
        *(f"  trial {trial.number} {_ENDS[trial.state]}: {trial.error}" for trial in trials if trial.error),
        *(
            f"  trial {trial.number} went on after the cluster lost a node, {trial.node_losses} time(s)"
            for trial in trials
            if trial.node_losses
        ),
        f"best: trial {best.number}, {results.objective.metric} {format_value(best.value)} at epoch {best.best_epoch}",
        *(f"  {key} = {to_setting(value)}" for key, value in best.params.items()),
        *_describe_passed_over(results),
        *describe_finalists(results.finalists, results.objective),
        *describe_front(results),
        *test.describe(),
        *([f"skipped {len(data.skipped)} files that could not be decoded:"] if data.skipped else []),
        *(f"  {skipped.path}: {skipped.reason}" for skipped in data.skipped),
        *([f"epochs were limited to {results.max_epochs} by --max-epochs"] if results.max_epochs else []),
        f"results: {folder.path}",
        *([f"report: {folder.report}"] if folder.report.is_file() else []),
        *([f"W&B runs are offline; to upload: {sync_command}"] if sync_command else []),
    ]
    return "\n".join(lines)


def _describe_passed_over(results: Results) -> list[str]:
    """Says that another trial led, where its model was lost; a finalist that won is no such case."""
    objectives = [objective for objective in (results.objective, results.second_objective) if objective is not None]
    leading = rank_results(results.trials, objectives)[:1]
    if results.finalists is not None or not leading or leading[0].number == results.best.number:
        return []
    assert leading[0].value is not None
    return [f"  trial {leading[0].number} had {format_value(leading[0].value)}, but its model is lost"]
