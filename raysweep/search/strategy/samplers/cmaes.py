"""CMA-ES, an evolution strategy for one objective."""

from optuna.samplers import BaseSampler, CmaEsSampler

from raysweep.search.strategy.samplers import count_startup_trials
from raysweep.study import Study


def build(study: Study, num_trials: int) -> BaseSampler:
    """Builds Optuna's CmaEsSampler."""
    return CmaEsSampler(
        seed=study.seed + num_trials,
        n_startup_trials=count_startup_trials(study),
        warn_independent_sampling=False,
    )
