"""Optuna's Gaussian process over final values."""

from optuna.samplers import BaseSampler, GPSampler

from raysweep.search.strategy.samplers import count_startup_trials
from raysweep.study import Study


def build(study: Study, num_trials: int) -> BaseSampler:
    """Builds Optuna's GPSampler."""
    return GPSampler(
        seed=study.seed + num_trials,
        n_startup_trials=count_startup_trials(study),
        warn_independent_sampling=False,
    )
