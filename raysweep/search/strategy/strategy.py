"""Proposes trials and decides which to stop: an Optuna sampler and pruner over a persistent study. No Ray here."""

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from raysweep.config import Objective
from raysweep.search.strategy.pruners import build_pruner
from raysweep.search.strategy.samplers import build_sampler
from raysweep.study import Study
from raysweep.trial_config import TrialConfig
from raysweep.trial_result import BASELINE, Params, TrialResult

NUM_EPOCHS = "num_epochs"
"""Attribute with a trial's reported epochs where there are two objectives: Optuna takes no intermediate values then."""
DURATION = "duration_s"
"""Attribute with the seconds of a trial that has ended, or was left to go on later, in all sessions but killed ones."""
MAX_RETRIES = 2
"""Times that a trial is resumed after its process died."""


class Strategy:
    """Proposes trials and decides which to stop, from an Optuna study that remembers everything.

    Trials that the study has as RUNNING were in flight when an earlier driver died: they are resumed first.
    """

    def __init__(
        self,
        study: Study,
        optuna_study: optuna.Study,
        write_together: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """write_together: in its context the storage may put off syncing what is written until the end of it."""
        self.study = study
        self.optuna_study = optuna_study
        self._write_together = write_together
        self._threads = ThreadpoolController()
        trials = optuna_study.get_trials(deepcopy=False)
        unfinished = [trial for trial in trials if trial.state == TrialState.RUNNING]
        self._running = {trial.number: optuna.Trial(optuna_study, trial._trial_id) for trial in unfinished}
        self._num_reported = {
            trial.number: max(trial.intermediate_values, default=trial.user_attrs.get(NUM_EPOCHS, 0))
            for trial in unfinished
        }
        self._to_resume = deque(self._running)
        self._num_begun = sum(trial.state != TrialState.WAITING for trial in trials)
        complete = [trial.values[0] for trial in trials if trial.state == TrialState.COMPLETE]
        self._has_reached_target = any(map(self._reaches_target, complete))

    def propose(self, only_resumed: bool = False) -> tuple[int, Params] | None:
        """Proposes the number and point of the next trial; none when no trial is to be resumed or to start.

        `only_resumed`: starts no new trial.
        """
        with self._work():
            if self._to_resume:
                number = self._to_resume.popleft()
                return number, self._suggest(self._running[number])
            if only_resumed or not self.has_budget():
                return None
            trial = self.optuna_study.ask()
            self._num_begun += 1
            self._running[trial.number], self._num_reported[trial.number] = trial, 0
            return trial.number, self._suggest(trial)

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """Computes in one thread, and writes together.

        The matrices are small, and trials train on the cores: several threads would wait for each other longer than
        they compute, and proposals would depend on the number of cores, as sums round differently.
        """
        with self._threads.limit(limits=1, user_api="blas"), self._write_together():
            yield

    def has_work(self, only_resumed: bool = False) -> bool:
        """Checks whether there is a trial to propose."""
        return bool(self._to_resume) or (not only_resumed and self.has_budget())

    def is_late(self, deadline: float | None) -> bool:
        """Tells whether it is past a deadline, by the monotonic clock; for a search's first trial it never is."""
        return deadline is not None and self.count_begun() > 0 and time.monotonic() > deadline

    def has_budget(self) -> bool:
        """Checks whether a further trial may start: trials are left, and the target is not reached."""
        return self.count_begun() < self.study.budget.trials and not self._has_reached_target

    def _reaches_target(self, value: float) -> bool:
        target = self.study.budget.target
        return target is not None and (value == target or self.study.objective.is_better(value, target))

    def count_trials(self) -> int:
        """Counts the trials of the Optuna study, those to come included."""
        return len(self.optuna_study.get_trials(deepcopy=False))

    def count_begun(self) -> int:
        """Counts the trials that have begun."""
        return self._num_begun

    def enqueue(self, point: Params) -> int:
        """Adds a point that is tried before others are proposed, and returns the number of its trial."""
        self.optuna_study.enqueue_trial(point)
        return self.count_trials() - 1

    def set_num_trials(self, num_trials: int) -> None:
        """Changes how many trials there are in all."""
        budget = dataclasses.replace(self.study.budget, trials=num_trials)
        self.study = dataclasses.replace(self.study, budget=budget)

    def _suggest(self, trial: optuna.Trial) -> Params:
        """Completes the trial's point: values that it has already stay."""
        params: Params = {}
        for key, distribution in self.study.space.items():
            params[key] = suggest(trial, key, distribution)
        for condition in self.study.conditions:
            if condition.holds(params):
                for key, distribution in condition.space.items():
                    params[key] = suggest(trial, key, distribution)
        return params

    def trial_config(self, number: int, params: Params) -> TrialConfig:
        """Builds the configuration of a proposed trial."""
        return self.study.trial_config(params, number)

    def num_reported(self, number: int) -> int:
        """Returns the number of epochs that a running trial has reported to the study."""
        return self._num_reported[number]

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Records a trial's objective after an epoch and decides whether to stop it. The baseline is never stopped.

        An epoch that was reported before is not recorded twice, and where later ones were, too, decides nothing: the
        trial has lost some and trains them again. With two objectives no trial is stopped.
        """
        trial = self._running[number]
        has_curve = self.study.second_objective is None
        with self._work():
            if epoch > self._num_reported[number]:
                if has_curve:
                    trial.report(value, epoch)
                else:
                    trial.set_user_attr(NUM_EPOCHS, epoch)
                self._num_reported[number] = epoch
            is_last = epoch == self._num_reported[number]
            return has_curve and is_last and number != BASELINE and bool(trial.should_prune())

    def duration_s(self, number: int) -> float:
        """Returns the seconds that a running trial took in earlier sessions; of one that was killed none are known."""
        return float(self._running[number].user_attrs.get(DURATION, 0.0))

    def leave(self, number: int, duration_s: float) -> None:
        """Records what a trial took that another session is to go on with."""
        self._running[number].set_user_attr(DURATION, round(duration_s, 3))

    def retry(self, number: int, *, node_lost: bool = False) -> bool:
        """Queues a trial whose process died, to be resumed under its number; false when it has died too often.

        A lost node is not the trial's fault: it is resumed however often that happens.
        """
        trial = self._running[number]
        kind = "node_losses" if node_lost else "retries"
        count = trial.user_attrs.get(kind, 0)
        if count == MAX_RETRIES and not node_lost:
            return False
        trial.set_user_attr(kind, count + 1)
        self._to_resume.append(number)
        return True

    def tell(self, result: TrialResult) -> None:
        """Records how a trial ended."""
        trial = self._running.pop(result.number)
        state = TrialState[result.state]
        values = [value for value in (result.value, result.second_value) if value is not None]
        with self._work():
            trial.set_user_attr(DURATION, round(result.duration_s, 3))
            if result.best_epoch is not None:
                trial.set_user_attr("best_epoch", result.best_epoch)
            if result.error is not None:
                trial.set_user_attr("error", result.error)
            self.optuna_study.tell(trial, values if state == TrialState.COMPLETE else None, state=state)
        if state == TrialState.COMPLETE:
            self._has_reached_target = self._has_reached_target or self._reaches_target(values[0])

    def results(self) -> list[TrialResult]:
        """Lists the results of the study's finished trials by number, whoever drove them."""
        return read_results(self.optuna_study, self.study.objectives)


def read_results(optuna_study: optuna.Study, objectives: Sequence[Objective]) -> list[TrialResult]:
    """Lists the results of an Optuna study's finished trials by number."""
    return [
        TrialResult(
            number=trial.number,
            state=trial.state.name,  # type: ignore[arg-type]
            value=trial.values[0] if trial.state == TrialState.COMPLETE else _best_value(trial, objectives[0]),
            second_value=trial.values[-1] if trial.values and len(objectives) > 1 else None,
            best_epoch=trial.user_attrs.get("best_epoch"),
            params=trial.params,
            duration_s=trial.user_attrs.get(DURATION, 0.0),
            error=trial.user_attrs.get("error"),
            retries=trial.user_attrs.get("retries", 0),
            node_losses=trial.user_attrs.get("node_losses", 0),
        )
        for trial in optuna_study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    ]


def _best_value(trial: FrozenTrial, objective: Objective) -> float | None:
    pick = max if objective.direction == "maximize" else min
    return pick(trial.intermediate_values.values(), default=None)


def suggest(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> Any:
    """Suggests the trial's value for a key of the space."""
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(key, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(key, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(key, choices)
    raise AssertionError(f"no such distribution: {distribution}")


def create_strategy(
    study: Study,
    storage: BaseStorage,
    study_name: str,
    *,
    sampler: str = "default",
    pruner: str = "default",
) -> Strategy:
    """Opens the Optuna study of that name, or creates it, with the sampler and the pruner of these names.

    Starting points that the study does not have yet are enqueued.

    Raises:
        UsageError: there is no such sampler or pruner.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna_study = optuna.create_study(
        study_name=study_name,
        storage=storage,
        directions=[objective.direction for objective in study.objectives],
        load_if_exists=True,
    )
    trials = optuna_study.get_trials(deepcopy=False)
    optuna_study.sampler = build_sampler(sampler, study, len(trials))
    optuna_study.pruner = build_pruner(pruner, study)
    known = [trial.system_attrs.get("fixed_params", trial.params) for trial in trials]
    for point in study.starting_points:
        if point not in known:
            optuna_study.enqueue_trial(point)
    return Strategy(study, optuna_study, getattr(storage, "write_together", contextlib.nullcontext))
