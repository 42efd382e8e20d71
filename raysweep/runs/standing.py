"""Says where a trial stood against the others: when it was stopped, and in the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from raysweep.config import Objective, format_value
from raysweep.search.strategy.reasons import STOPPED


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Compares a trial that was stopped with the others at the epoch after which it was."""

    epoch: int
    value: float
    """Its best objective until then."""
    rank: int
    """Among the trials that came as far and had begun before it was stopped: 1 is the best."""
    num_trials: int
    """How many these are, itself included."""
    best: float | None = None
    """The best objective of the trials that had completed by then; none: none had."""
    best_trial: int | None = None
    probability: float | None = None
    """That it ends as the best, by the model that stopped it; none: another pruner stopped it."""
    expected: float | None = None
    """Where the model expected it to end."""
    low: float | None = None
    """Lower end of the model's 95 % interval."""
    high: float | None = None


def find_standing(trial: FrozenTrial, trials: Sequence[FrozenTrial], objective: Objective) -> Standing | None:
    """Finds where a trial stood as it was stopped; none: it was not, or reported nothing."""
    if trial.state != TrialState.PRUNED or trial.last_step is None:
        return None
    epoch, stopped = trial.last_step, trial.datetime_complete
    mine = _best_until(trial, epoch, objective)
    rivals = [
        other
        for other in trials
        if other.number != trial.number
        and (other.last_step or 0) >= epoch
        and (stopped is None or (other.datetime_start is not None and other.datetime_start < stopped))
    ]
    ahead = sum(objective.is_better(_best_until(other, epoch, objective), mine) for other in rivals)
    before = [
        (other.values[0], other.number)
        for other in trials
        if other.state == TrialState.COMPLETE
        and (stopped is None or (other.datetime_complete is not None and other.datetime_complete < stopped))
    ]
    pick = max if objective.direction == "maximize" else min
    best = pick(before, key=lambda pair: pair[0], default=None)
    note: dict[str, Any] = trial.user_attrs.get(STOPPED, {})
    return Standing(
        epoch=epoch,
        value=mine,
        rank=1 + ahead,
        num_trials=1 + len(rivals),
        best=best and best[0],
        best_trial=best and best[1],
        **{name: note.get(name) for name in ("probability", "expected", "low", "high")},
    )


def describe_standing(standing: Standing, metric: str) -> str:
    """Says in a sentence where a trial stood."""
    text = (
        f"after epoch {standing.epoch} with {metric} {format_value(standing.value)}, place {standing.rank} of the "
        f"{standing.num_trials} trials that came as far"
    )
    if standing.best is not None:
        text += f"; the best complete one, trial {standing.best_trial}, had {format_value(standing.best)}"
    if standing.probability is not None:
        text += f"; the model gave it {standing.probability:.1%} to end as the best"
    if standing.expected is not None and standing.low is not None and standing.high is not None:
        interval = f"{format_value(standing.low)} to {format_value(standing.high)}, 95 %"
        text += f", and expected {format_value(standing.expected)} ({interval})"
    return text


def _best_until(trial: FrozenTrial, epoch: int, objective: Objective) -> float:
    pick = max if objective.direction == "maximize" else min
    return pick(value for step, value in trial.intermediate_values.items() if step <= epoch)
