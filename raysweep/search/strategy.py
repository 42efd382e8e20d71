"""What to try and what to stop: an Optuna sampler and pruner over a persistent study. No Ray here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from raysweep.search.pruners import PrunerName, build_pruner
from raysweep.search.samplers import SamplerName, build_sampler
from raysweep.study import Study

BASELINE = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """How a trial ended."""

    number: int
    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    value: float | None
    """The best objective of its epochs; none when no epoch finished."""
    best_epoch: int | None
    params: dict[str, Any]
    duration_s: float
    error: str | None = None
    """Why it failed, or why the task ended it before its last epoch."""


class Strategy:
    """Proposes trials and decides which to stop, from an Optuna study that remembers everything."""

    def __init__(self, study: Study, optuna_study: optuna.Study) -> None:
        self.study = study
        self.optuna_study = optuna_study
        self._running: dict[int, optuna.Trial] = {}

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """Number and point of the next trial; none when the budget of trials is used up."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        if sum(trial.state != TrialState.WAITING for trial in trials) >= self.study.budget.trials:
            return None
        trial = self.optuna_study.ask()
        params: dict[str, Any] = {}
        for key, distribution in self.study.space.items():
            params[key] = suggest(trial, key, distribution)
        for condition in self.study.conditions:
            if condition.holds(params):
                for key, distribution in condition.space.items():
                    params[key] = suggest(trial, key, distribution)
        self._running[trial.number] = trial
        return trial.number, params

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Takes a trial's objective after an epoch; returns whether to stop it. The baseline is never stopped."""
        trial = self._running[number]
        trial.report(value, epoch)
        return number != BASELINE and bool(trial.should_prune())

    def tell(self, result: TrialResult) -> None:
        """Records how a trial ended."""
        trial = self._running.pop(result.number)
        trial.set_user_attr("duration_s", round(result.duration_s, 3))
        if result.best_epoch is not None:
            trial.set_user_attr("best_epoch", result.best_epoch)
        if result.error is not None:
            trial.set_user_attr("error", result.error)
        state = TrialState[result.state]
        self.optuna_study.tell(trial, result.value if state == TrialState.COMPLETE else None, state=state)


def suggest(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> Any:
    """The trial's value for a key of the space."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(key, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(key, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(key, choices)
    raise AssertionError(f"no such distribution: {distribution}")


def create_strategy(
    study: Study, journal: Path, *, sampler: SamplerName = "default", pruner: PrunerName = "default"
) -> Strategy:
    """A strategy over a new Optuna study in the journal file, with the sampler and the pruner of these names."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna_study = optuna.create_study(
        study_name=study.name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction=study.objective.direction,
        sampler=build_sampler(sampler, study),
        pruner=build_pruner(pruner, study),
    )
    for point in study.starting_points:
        optuna_study.enqueue_trial(point)
    return Strategy(study, optuna_study)
