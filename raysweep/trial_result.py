"""Defines the result of a trial, as the study, observers and results.json know it."""

from dataclasses import dataclass
from typing import Any, Literal

BASELINE = 0
"""Number of the trial that runs the study's own configuration."""


Params = dict[str, Any]
"""A point of a search space: dotted names of fields to values, which are of as many types as fields are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """Says how a trial ended."""

    number: int
    """Its number; 0 is the baseline."""
    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    """Optuna's word: complete, stopped early, or failed."""
    value: float | None
    """The best objective of its epochs; none when no epoch finished."""
    best_epoch: int | None
    """The epoch of that value, the first being 1."""
    params: Params
    """Its point of the space."""
    duration_s: float
    """Wall time in the session that ended it."""
    second_value: float | None = None
    """The second objective of the best epoch; none: there is none."""
    error: str | None = None
    """Why it failed, or why the task ended it before its last epoch."""
    retries: int = 0
    """How often it went on after its process died."""
    node_losses: int = 0
    """How often it went on after the cluster lost a node; no retries."""
