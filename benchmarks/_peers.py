"""The strategies that search_efficiency.py compares, each as production's Strategy over an in-memory Optuna study."""

import dataclasses
import functools
from collections.abc import Callable

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from raysweep.search.pruners import build_pruner
from raysweep.search.samplers import build_sampler
from raysweep.search.strategy import Strategy, TrialResult
from raysweep.study import Study


class RayWrapperStrategy(Strategy):
    """Tells Optuna what Ray Tune's OptunaSearch does: a stopped trial is complete with its early value."""

    def tell(self, result: TrialResult) -> None:
        """Records how a trial ended."""
        if result.state == "PRUNED":
            reported = self.optuna_study.get_trials(deepcopy=False)[result.number].intermediate_values
            result = dataclasses.replace(result, state="COMPLETE", value=reported[max(reported)])
        super().tell(result)


def asha(grace: int) -> Callable[[Study], BasePruner]:
    """ASHA with eta 3 and the first rung after `grace` epochs."""
    return lambda study: SuccessiveHalvingPruner(min_resource=grace, reduction_factor=3)


def never(study: Study) -> BasePruner:
    """No pruner."""
    return NopPruner()


def tpe(study: Study) -> BaseSampler:
    """Optuna's default sampler."""
    return TPESampler(seed=study.seed)


def random(study: Study) -> BaseSampler:
    """Random points."""
    return RandomSampler(seed=study.seed)


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """How a strategy is built for a study, whose seed is the run's."""

    sampler: Callable[[Study], BaseSampler]
    pruner: Callable[[Study], BasePruner]
    strategy: type[Strategy] = Strategy

    def build(self, study: Study) -> Strategy:
        """The strategy over a new in-memory study."""
        sampler, pruner = self.sampler(study), self.pruner(study)
        direction = study.objective.direction
        return self.strategy(study, optuna.create_study(direction=direction, sampler=sampler, pruner=pruner))


OURS, BASE = "default", "random"
METHODS = {
    BASE: Method(random, never),
    "random + ASHA": Method(random, asha(1)),
    "random + ASHA, grace 3": Method(random, asha(3)),
    "TPE": Method(tpe, never),
    "TPE + ASHA as Ray tells it": Method(tpe, asha(1), RayWrapperStrategy),
    "TPE + Hyperband": Method(tpe, lambda study: HyperbandPruner(max_resource=study.training.epochs)),
    "GP sampler": Method(lambda study: GPSampler(seed=study.seed), never),
    OURS: Method(functools.partial(build_sampler, "default"), functools.partial(build_pruner, "default")),
}
