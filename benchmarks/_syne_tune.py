"""Syne Tune's multi-fidelity methods behind the interface of production's Strategy, for search_efficiency.py."""

import dataclasses
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from syne_tune import config_space
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import ASHACQR, BOHB
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialScheduler

from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_result import TrialResult

METRIC, EPOCH = "value", "epoch"


class SyneTuneStrategy(Strategy):
    """A Syne Tune scheduler that is told what its own tuner would tell it; no Optuna study."""

    def __init__(self, scheduler: TrialScheduler) -> None:
        self.scheduler = scheduler
        self.trials: list[Trial] = []
        self.last_results: dict[int, dict[str, Any]] = {}

    def propose(self, only_resumed: bool = False) -> tuple[int, dict[str, Any]]:
        """Number and point of a new trial."""
        suggestion = self.scheduler.suggest()
        assert suggestion is not None
        assert suggestion.config is not None, "these schedulers only start new trials"
        trial = Trial(trial_id=len(self.trials), config=suggestion.config, creation_time=datetime.now(UTC))
        self.trials.append(trial)
        self.scheduler.on_trial_add(trial)
        return trial.trial_id, dict(suggestion.config)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Whether the scheduler stops the trial after this epoch."""
        self.last_results[number] = {METRIC: value, EPOCH: epoch}
        return bool(
            self.scheduler.on_trial_result(self.trials[number], self.last_results[number]) == SchedulerDecision.STOP
        )

    def tell(self, result: TrialResult) -> None:
        """Ends a trial that was not stopped; of the others the scheduler knows."""
        if result.state == "COMPLETE":
            self.scheduler.on_trial_complete(self.trials[result.number], self.last_results[result.number])


def to_syne_tune(distribution: BaseDistribution) -> config_space.Domain:
    """The same distribution in Syne Tune's words."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=None):
            return (config_space.loguniform if log else config_space.uniform)(low, high)
        case IntDistribution(low=low, high=high, log=log, step=1):
            return (config_space.lograndint if log else config_space.randint)(low, high)
        case CategoricalDistribution(choices=choices):
            return config_space.choice(list(choices))
    raise AssertionError(f"no such distribution: {distribution}")


@dataclasses.dataclass(frozen=True, slots=True)
class SyneTuneMethod:
    """How one of Syne Tune's schedulers is built for a study, whose seed is the run's."""

    scheduler: Callable[..., TrialScheduler]
    grace: int

    def build(self, study: Study) -> SyneTuneStrategy:
        """The scheduler over the study's space, with eta 3."""
        random.seed(study.seed)  # it draws from the global generators too
        np.random.seed(study.seed)
        return SyneTuneStrategy(
            self.scheduler(
                config_space={key: to_syne_tune(distribution) for key, distribution in study.space.items()},
                metric=METRIC,
                time_attr=EPOCH,
                max_t=study.training.epochs,
                do_minimize=study.objective.direction == "minimize",
                random_seed=study.seed,
                grace_period=self.grace,
                reduction_factor=3,
            )
        )


METHODS = {
    f"{name} of Syne Tune, grace {grace}": SyneTuneMethod(scheduler, grace)
    for name, scheduler in (("ASHA + CQR", ASHACQR), ("BOHB", BOHB))
    for grace in (1, 3)
}
