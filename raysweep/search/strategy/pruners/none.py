"""Stops no trial."""

from optuna.pruners import BasePruner, NopPruner

from raysweep.study import Study


def build(study: Study) -> BasePruner:
    """Builds Optuna's NopPruner."""
    return NopPruner()
