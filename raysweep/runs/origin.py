"""Says why a trial was proposed, and what was expected of it where that was written down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial

from raysweep.config import format_value
from raysweep.report.run_view import RunView
from raysweep.search.strategy.reasons import PROPOSAL
from raysweep.trial_result import BASELINE

NOT_KEPT = "what it expected was not kept"
RULES = {
    "upper confidence bound": "of the points it looked at the one with the best expected value plus one deviation",
    "joint draw": "of the points it looked at the best one in a draw of what may be true",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Says where the point of a trial comes from."""

    by: Literal["baseline", "study", "added", "random", "model", "sampler"]
    """The study's own configuration, one of its points, a point that was added by hand, a random draw, the model of
    learning curves, or one of Optuna's samplers or somebody's own."""
    text: str
    """The same in a sentence."""
    expected: float | None = None
    """The objective that the model expected; none: it was no model, or did not write it down."""
    low: float | None = None
    """Lower end of the model's 95 % interval."""
    high: float | None = None


def find_origin(view: RunView, trial: FrozenTrial) -> Origin:
    """Finds why a trial was proposed."""
    if trial.number == BASELINE:
        return Origin(by="baseline", text="it is the baseline, the study's own configuration")
    note: Mapping[str, Any] | None = trial.user_attrs.get(PROPOSAL)
    if note is not None:
        return _read_note(note, view.objectives[0].metric)
    fixed = trial.system_attrs.get("fixed_params")
    points = view.study.get("points", [])
    if any(point.items() <= trial.params.items() for point in points[: trial.number]) and trial.number <= len(points):
        return Origin(by="study", text="it is a point that the study names")
    if fixed is not None:
        said = ", ".join(f"{key}={value}" for key, value in fixed.items())
        return Origin(by="added", text=f"it is a point that was added by hand: {said}")
    name = view.record.identity.overrides.sampler or "default"
    return Origin(by="sampler", text=f"the {name} sampler proposed it; {NOT_KEPT}")


def _read_note(note: Mapping[str, Any], metric: str) -> Origin:
    if note.get("by") != "model":
        return Origin(by="random", text="it was drawn at random, as the first ones are, from which the model learns")
    rule = RULES.get(note.get("rule", ""), "by its own rule")
    text = f"the model of learning curves proposed it after {note.get('num_trials')} trials: {rule}"
    expected, low, high = (note.get(name) for name in ("expected", "low", "high"))
    if expected is None or low is None or high is None:
        return Origin(by="model", text=f"{text}; {NOT_KEPT}")
    text = f"{text}; it expected {metric} {format_value(expected)} ({format_value(low)} to {format_value(high)}, 95 %)"
    return Origin(by="model", text=text, expected=expected, low=low, high=high)
