"""The thin adapters that let Ray Tune execute what the strategy decides."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysweep.search.observer import Observer
from raysweep.search.strategy import Strategy, TrialResult
from raysweep.train.loop import EpochReport
from raysweep.train.trial import TrialSpec, run_trial


class SearchDriver:
    """Keeps the books between the strategy, Ray Tune's trials and the observers."""

    def __init__(
        self,
        strategy: Strategy,
        make_spec: Callable[[int, dict[str, Any]], TrialSpec],
        observers: Sequence[Observer],
        deadline: float | None,
    ) -> None:
        self.strategy = strategy
        self.make_spec = make_spec
        self.observers = observers
        self.deadline = deadline
        self.results: list[TrialResult] = []
        self._numbers: dict[str, int] = {}
        self._params: dict[int, dict[str, Any]] = {}
        self._began: dict[int, float] = {}
        self._specs: dict[int, TrialSpec] = {}
        self._last: dict[int, EpochReport] = {}

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Nothing: Ray Tune pickles its searcher for a restore of its own, which is never used."""
        return object, ()

    def start(self, trial_id: str) -> TrialSpec | None:
        """The next trial, or none when the budget is used up."""
        if self.deadline is not None and self._numbers and time.monotonic() > self.deadline:
            return None
        proposal = self.strategy.propose()
        if proposal is None:
            return None
        number, params = proposal
        self._numbers[trial_id], self._params[number], self._began[number] = number, params, time.monotonic()
        spec = self._specs[number] = self.make_spec(number, params)
        for observer in self.observers:
            observer.trial_started(number, spec.config.to_json(), params)
        return spec

    def take(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Takes a report; returns whether Ray Tune is to stop the trial now.

        A DDP trial is never stopped from outside, which would leave its workers and their placement group
        behind: it ends by itself, on a word in its folder where it is weak.
        """
        number = self._numbers[trial_id]
        if number not in self._began:
            return False
        if "error" in result:
            self._end(number, "FAIL", result["error"])
            return True
        report: EpochReport = result["report"]
        self._last[number] = report
        stop = self.strategy.report(number, int(report.metrics["epoch"]), report.value)
        for observer in self.observers:
            observer.epoch_ended(number, report.metrics)
        spec = self._specs[number]
        if report.finished:
            self._end(number, "COMPLETE", report.cause)
        elif stop:
            spec.stop_file.touch()
            self._end(number, "PRUNED")
        return (report.finished or stop) and spec.request.num_workers == 1

    def fail(self, trial_id: str, error: str) -> None:
        """Takes note that a trial ended without a word of its own: its process died, for one."""
        number = self._numbers[trial_id]
        if number in self._began:
            self._end(number, "FAIL", error)

    def _end(self, number: int, state: Any, error: str | None = None) -> None:
        last = self._last.pop(number, None)
        result = TrialResult(
            number=number,
            state=state,
            value=last.best_value if last else None,
            best_epoch=last.best_epoch if last else None,
            params=self._params.pop(number),
            duration_s=time.monotonic() - self._began.pop(number),
            error=error,
        )
        self.strategy.tell(result)
        self.results.append(result)
        for observer in self.observers:
            observer.trial_ended(result)


class StrategySearcher(Searcher):
    """Asks the driver for trials. Results come through the scheduler, which knows the trial."""

    def __init__(self, driver: SearchDriver) -> None:
        super().__init__(metric=None, mode=None)
        self.driver = driver

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, or FINISHED."""
        spec = self.driver.start(trial_id)
        return Searcher.FINISHED if spec is None else {"spec": spec}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """A trial that ended without saying why (its books are closed otherwise) has failed."""
        self.driver.fail(trial_id, "the trial's process ended without a report")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the Optuna study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the Optuna study remembers."""


class StrategyScheduler(FIFOScheduler):
    """Hands reports to the driver and stops what it says."""

    def __init__(self, driver: SearchDriver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP for a trial that is finished, weak or failed."""
        stop = self.driver.take(trial.trial_id, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A trial whose process died."""
        lines = str(trial.get_error() or "the trial's process died").strip().splitlines()
        self.driver.fail(trial.trial_id, lines[-1][:500])


def run_trials(
    driver: SearchDriver,
    *,
    resources: tune.PlacementGroupFactory,
    concurrency: int,
    reuse: bool,
    scratch: str,
) -> None:
    """Runs trials until the driver has no more. Ray Tune's own files go to `scratch`."""
    tuner = tune.Tuner(
        tune.with_resources(run_trial, resources),
        tune_config=tune.TuneConfig(
            search_alg=StrategySearcher(driver),
            scheduler=StrategyScheduler(driver),
            num_samples=-1,
            max_concurrent_trials=concurrency,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(name="search", storage_path=scratch, verbose=0),
    )
    tuner.fit()
