"""Independent random points: what every other sampler has to beat."""

from optuna.samplers import BaseSampler, RandomSampler

from raysweep.study import Study


def build(study: Study, num_trials: int) -> BaseSampler:
    """Builds Optuna's RandomSampler."""
    return RandomSampler(seed=study.seed + num_trials)
