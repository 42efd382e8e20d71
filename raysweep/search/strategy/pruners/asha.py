"""Asynchronous successive halving."""

from optuna.pruners import BasePruner, SuccessiveHalvingPruner

from raysweep.search.strategy.curve_model import GRACE_EPOCHS
from raysweep.study import Study


def build(study: Study) -> BasePruner:
    """Builds Optuna's SuccessiveHalvingPruner, with eta 3."""
    return SuccessiveHalvingPruner(min_resource=GRACE_EPOCHS, reduction_factor=3)
