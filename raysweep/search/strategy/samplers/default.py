"""The default sampler: the model of learning curves wherever there are any."""

from optuna.samplers import BaseSampler, RandomSampler

from raysweep.search.strategy.curve_model import CurveModel
from raysweep.search.strategy.samplers import tpe
from raysweep.search.strategy.samplers.curve import CurveSampler
from raysweep.study import Study


def build(study: Study, num_trials: int) -> BaseSampler:
    """Builds the sampler that suits the study: trials of two objectives have no curves, TPE proposes these."""
    if not study.space:  # all trials are at the one point that there is
        return RandomSampler(seed=study.seed + num_trials)
    if study.second_objective is None:
        return CurveSampler(study, CurveModel(study))
    return tpe.build(study, num_trials)
