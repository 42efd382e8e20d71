"""Stops a trial whose best value is worse than the median of the others at the same epoch."""

from optuna.pruners import BasePruner, MedianPruner

from raysweep.search.strategy.curve_model import GRACE_EPOCHS
from raysweep.study import Study


def build(study: Study) -> BasePruner:
    """Builds Optuna's MedianPruner."""
    return MedianPruner(n_startup_trials=3, n_warmup_steps=GRACE_EPOCHS)
