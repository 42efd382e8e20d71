"""Gives account of a run: its state, what it found so far, and a line for each of its trials."""

from datetime import datetime

from raysweep.atomic_files import Json
from raysweep.report.run_view import RunView
from raysweep.runs.listing import NOT_YET, describe_runs, describe_view, format_or_dash
from raysweep.runs.origin import find_origin
from raysweep.runs.table import draw_table
from raysweep.search.finalists.statistics import describe_finalists
from raysweep.stages import format_duration
from raysweep.trial_result import TrialResult


def run_to_json(view: RunView) -> Json:
    """Returns a run and its trials as plain JSON values."""
    ended = {result.number: result for result in view.ended}
    return {
        **describe_view(view).to_json(),
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name,
                "value": ended[trial.number].value if trial.number in ended else None,
                "best_epoch": trial.user_attrs.get("best_epoch"),
                "num_epochs": trial.last_step or 0,
                "duration_s": trial.user_attrs.get("duration_s"),
                "proposed_by": find_origin(view, trial).by,
                "params": trial.params,
                "error": trial.user_attrs.get("error"),
            }
            for trial in view.trials
        ],
    }


def describe_account(view: RunView, now: datetime) -> str:
    """Gives account of a run to a person."""
    ended = {result.number: result for result in view.ended}
    rows = [
        [
            str(trial.number),
            find_origin(view, trial).by,
            view.name_state(trial.state.name),
            _describe_value(ended.get(trial.number)),
            str(trial.user_attrs.get("best_epoch", NOT_YET)),
            str(trial.last_step or NOT_YET),
            format_duration(trial.user_attrs["duration_s"]) if "duration_s" in trial.user_attrs else NOT_YET,
            trial.user_attrs.get("error", ""),
        ]
        for trial in view.trials
    ]
    header = ["trial", "proposed by", "state", view.objectives[0].metric, "best epoch", "epochs", "time", "cause"]
    finalists = describe_finalists(view.results.finalists if view.results else None, view.objectives[0])
    test = view.results.test.describe() if view.results else []
    parts = [
        describe_runs([describe_view(view)], now).splitlines(),
        draw_table(header, rows) * bool(rows),
        finalists,
        test,
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _describe_value(result: TrialResult | None) -> str:
    return format_or_dash(result.value if result else None)
