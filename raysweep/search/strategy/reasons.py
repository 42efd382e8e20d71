"""Writes down, beside each trial in the Optuna study, why it was proposed and why it was stopped."""

import math
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from raysweep.atomic_files import Json
from raysweep.search.strategy.curve_model import Forecast

PROPOSAL = "proposal"
"""Attribute of a trial: `by` (random, model) and, of the model, `rule`, `num_trials` seen and its forecast."""
STOPPED = "stopped"
"""Attribute of a trial that the model of learning curves has stopped: `epoch`, `probability` and its forecast."""


def note_reason(
    study: optuna.Study, trial: FrozenTrial, key: str, forecast: Forecast | None = None, **why: Any
) -> None:
    """Writes a reason; a forecast that is no number is left out, as the study's file takes none."""
    values: Json = dict(why)
    if forecast is not None and all(map(math.isfinite, (forecast.expected, forecast.low, forecast.high))):
        values |= {"expected": forecast.expected, "low": forecast.low, "high": forecast.high}
    study._storage.set_trial_user_attr(trial._trial_id, key, values)
