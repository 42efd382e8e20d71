"""The tree-structured Parzen estimator, Optuna's own default."""

from optuna.samplers import BaseSampler, TPESampler

from raysweep.search.strategy.samplers import count_startup_trials
from raysweep.study import Study


def build(study: Study, num_trials: int) -> BaseSampler:
    """Builds Optuna's TPESampler."""
    return TPESampler(seed=study.seed + num_trials, n_startup_trials=count_startup_trials(study))
