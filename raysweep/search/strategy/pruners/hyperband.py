"""Hyperband: several brackets of successive halving."""

from optuna.distributions import IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner

from raysweep.study import Study


def build(study: Study) -> BasePruner:
    """Builds Optuna's HyperbandPruner, with eta 3, up to the longest trial of the space."""
    epochs = study.space.get("training.epochs")
    longest = epochs.high if isinstance(epochs, IntDistribution) else study.training.epochs
    return HyperbandPruner(min_resource=1, max_resource=longest, reduction_factor=3)
