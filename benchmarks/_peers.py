"""The strategies that search_efficiency.py compares, each as production's Strategy over an in-memory Optuna study."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from typing import Protocol

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from raysweep.search.strategy.pruners import build_pruner
from raysweep.search.strategy.samplers import build_sampler
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_result import TrialResult


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


class Method(Protocol):
    """How a strategy is built for a study, whose seed is the run's."""

    def build(self, study: Study) -> Strategy: ...


@dataclasses.dataclass(frozen=True, slots=True)
class OptunaMethod:
    """A sampler and a pruner of Optuna's kind."""

    sampler: Callable[[Study], BaseSampler]
    pruner: Callable[[Study], BasePruner]
    strategy: type[Strategy] = Strategy

    def build(self, study: Study) -> Strategy:
        """The strategy over a new in-memory study."""
        sampler, pruner = self.sampler(study), self.pruner(study)
        direction = study.objective.direction
        return self.strategy(study, optuna.create_study(direction=direction, sampler=sampler, pruner=pruner))


OURS, BASE = "default", "random"
METHODS: dict[str, Method] = {
    BASE: OptunaMethod(random, never),
    "random + ASHA": OptunaMethod(random, asha(1)),
    "random + ASHA, grace 3": OptunaMethod(random, asha(3)),
    "TPE": OptunaMethod(tpe, never),
    "TPE + ASHA as Ray tells it": OptunaMethod(tpe, asha(1), RayWrapperStrategy),
    "TPE + Hyperband": OptunaMethod(tpe, lambda study: HyperbandPruner(max_resource=study.training.epochs)),
    "GP sampler": OptunaMethod(lambda study: GPSampler(seed=study.seed), never),
    OURS: OptunaMethod(functools.partial(build_sampler, "default"), functools.partial(build_pruner, "default")),
}
if importlib.util.find_spec("syne_tune"):
    from _syne_tune import METHODS as SYNE_TUNE_METHODS

    METHODS |= SYNE_TUNE_METHODS
