"""Gives account of one trial: why it was proposed, how it ended, where it stood, what it cost, why it failed."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from raysweep import config_fields, file_guard
from raysweep.atomic_files import Json
from raysweep.config import format_value
from raysweep.errors import UsageError
from raysweep.report.run_view import RunView
from raysweep.run_folder import TrialFolder
from raysweep.runs.listing import measure_size
from raysweep.runs.origin import Origin, find_origin
from raysweep.runs.standing import Standing, describe_standing, find_standing
from raysweep.runs.table import draw_table
from raysweep.search.ranking import rank_results
from raysweep.stages import format_duration
from raysweep.storage_faults import format_bytes
from raysweep.train.history import DATA_WAIT, SPEED
from raysweep.trial_result import BASELINE, Params


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Says what a trial took."""

    duration_s: float | None
    """Wall time in the session that ended it; none: it has not ended."""
    share: float | None
    """Of the time of all ended trials of the search."""
    num_epochs: int
    images_per_s: float | None
    """Training images a second, the mean over its epochs."""
    data_wait_s: float | None
    """Seconds of its epochs in which training waited for batches; none: it is from before that was measured."""
    size_bytes: int
    """Of its folder now."""
    retries: int
    """How often it went on after its process died."""
    node_losses: int
    """How often it went on after the cluster lost a node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialAccount:
    """Holds all that is known of a trial."""

    number: int
    state: str
    """Optuna's: COMPLETE, PRUNED, FAIL or RUNNING."""
    state_in_words: str
    """complete, stopped early, failed, running or interrupted: it has not ended, and no command works on the run."""
    objective: str
    value: float | None
    """The best objective of its epochs."""
    best_epoch: int | None
    max_epochs: int
    """Epochs that its configuration asks for."""
    rank: int | None
    """Among the complete trials, 1 the best; none: it is none of them."""
    num_complete: int
    origin: Origin
    params: Params
    baseline_params: Params
    standing: Standing | None
    """None: it was not stopped early."""
    cost: Cost
    began: datetime | None
    ended: datetime | None
    error: str | None
    """Why it failed, or why its task ended it."""
    traceback: str | None
    """The file that has it."""
    notices: tuple[str, ...]
    """What was out of the ordinary."""
    weights: str | None
    """The file of its best epoch's weights; none: they are not kept."""

    def to_json(self) -> Json:
        """Returns plain JSON values."""
        return config_fields.to_json(self)


def find_trial(view: RunView, number: int) -> FrozenTrial:
    """Finds a trial of a run that has begun.

    Raises:
        UsageError: there is none of that number, or the Optuna study cannot be read.
    """
    if view.optuna_study is None:
        reason = "; ".join(view.problems) or "no trial has begun"
        raise UsageError(f"a trial is told of from the run's Optuna study, got none of {view.folder.path}: {reason}")
    for trial in view.trials:
        if trial.number == number:
            return trial
    known = f"0 to {max(trial.number for trial in view.trials)}" if view.trials else "none yet"
    raise UsageError(f"{view.folder.path} has no trial {number}; it has: {known}")


def give_account(view: RunView, number: int) -> TrialAccount:
    """Gives account of a trial.

    Raises:
        UsageError: see `find_trial`.
    """
    trial, folder = find_trial(view, number), view.folder.trial(number)
    ended = view.ended
    ranked = [result.number for result in rank_results(ended, view.objectives)]
    result = next((result for result in ended if result.number == number), None)
    values = trial.intermediate_values.values()
    best = (max if view.objectives[0].direction == "maximize" else min)(values, default=None)
    return TrialAccount(
        number=number,
        state=trial.state.name,
        state_in_words=view.name_state(trial.state.name),
        objective=view.objectives[0].metric,
        value=result.value if result else best,
        best_epoch=result.best_epoch if result else None,
        max_epochs=trial.params.get("training.epochs", view.study["training"]["epochs"]),
        rank=ranked.index(number) + 1 if number in ranked else None,
        num_complete=len(ranked),
        origin=find_origin(view, trial),
        params=trial.params,
        baseline_params=view.study["baseline"],
        standing=find_standing(trial, view.trials, view.objectives[0]),
        cost=_measure_cost(view, trial, sum(other.duration_s for other in ended)),
        began=_in_utc(trial.datetime_start),
        ended=_in_utc(trial.datetime_complete),
        error=result.error if result else None,
        traceback=str(folder.error) if folder.error.is_file() else None,
        notices=_read_notices(folder),
        weights=str(folder.weights) if os.path.lexists(folder.weights) else None,
    )


def _measure_cost(view: RunView, trial: FrozenTrial, total_s: float) -> Cost:
    history = view.histories.get(trial.number, [])  # where it is damaged, the Optuna study has the epochs all the same
    waits_s = [row[DATA_WAIT] for row in history if DATA_WAIT in row]
    speeds = [row[SPEED] for row in history if SPEED in row]
    duration_s = trial.user_attrs.get("duration_s") if trial.state.is_finished() else None
    return Cost(
        duration_s=duration_s,
        share=duration_s / total_s if duration_s and total_s else None,
        num_epochs=max(trial.last_step or 0, len(history)),
        images_per_s=fmean(speeds) if speeds else None,
        data_wait_s=sum(waits_s) if waits_s else None,
        size_bytes=measure_size(view.folder.trial(trial.number).path),
        retries=trial.user_attrs.get("retries", 0),
        node_losses=trial.user_attrs.get("node_losses", 0),
    )


def _read_notices(folder: TrialFolder) -> tuple[str, ...]:
    if not folder.notices.is_file():
        return ()
    return tuple(file_guard.read_text(folder.notices, "notices of a trial").splitlines())


def _in_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)


def describe_account(account: TrialAccount) -> str:
    """Gives account of a trial to a person."""
    lines = [
        f"trial {account.number}: {_describe_end(account)}",
        f"proposed: {account.origin.text}{_describe_outcome(account)}",
        *([f"stopped: {describe_standing(account.standing, account.objective)}"] if account.standing else []),
        *([f"{_CAUSES.get(account.state, 'ended early')}: {account.error}"] if account.error else []),
        *([f"traceback: {account.traceback}"] if account.traceback else []),
        f"cost: {_describe_cost(account.cost)}",
        *(f"notice: {notice}" for notice in account.notices),
        f"weights: {account.weights or 'not kept (`replay` trains it again)'}",
    ]
    rows = [[key, str(value), _describe_baseline(account, key)] for key, value in account.params.items()]
    return "\n".join([*lines, "", *draw_table(["parameter", "value", "baseline"], rows)] if rows else lines)


_CAUSES = {"FAIL": "failed"}


def _describe_end(account: TrialAccount) -> str:
    value = "no epoch finished" if account.value is None else f"{account.objective} {format_value(account.value)}"
    at = f" at epoch {account.best_epoch}" if account.best_epoch is not None else ""
    rank = f", place {account.rank} of {account.num_complete} complete trials" if account.rank else ""
    return f"{account.state_in_words}, {value}{at}; {account.cost.num_epochs} of {account.max_epochs} epochs{rank}"


def _describe_outcome(account: TrialAccount) -> str:
    """Says whether a complete trial came out as the model had expected."""
    origin, value = account.origin, account.value
    if account.state != TrialState.COMPLETE.name or value is None or origin.low is None or origin.high is None:
        return ""
    return ", and so it came out" if origin.low <= value <= origin.high else ", and it came out otherwise"


def _describe_cost(cost: Cost) -> str:
    parts = [
        format_duration(cost.duration_s) if cost.duration_s is not None else "it has not ended",
        *([f"{cost.share:.0%} of the time of all trials"] if cost.share else []),
        f"{cost.num_epochs} epochs",
        *([f"{cost.images_per_s:,.0f} images/s"] if cost.images_per_s else []),
        *([f"{format_duration(cost.data_wait_s)} of waiting for data"] if cost.data_wait_s is not None else []),
        f"{format_bytes(cost.size_bytes)} on disk",
        *([f"{cost.retries} deaths of its process"] if cost.retries else []),
        *([f"{cost.node_losses} lost nodes"] if cost.node_losses else []),
    ]
    return ", ".join(parts)


def _describe_baseline(account: TrialAccount, key: str) -> str:
    if account.number == BASELINE or key not in account.baseline_params:
        return ""
    value: Any = account.baseline_params[key]
    return "the same" if value == account.params[key] else str(value)
