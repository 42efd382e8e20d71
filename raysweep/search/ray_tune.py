"""Lets Ray Tune execute what the strategy decides, by thin adapters."""

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysweep import signals
from raysweep.cluster.capacity import Request
from raysweep.cluster.lost_ray import LossCheck, is_lost
from raysweep.cluster.orphans import OrphanCollector
from raysweep.cluster.ray_internals import get_trial_killer
from raysweep.cluster.waiting import WaitingNotice
from raysweep.search.driver import SearchDriver
from raysweep.train.report import unpack_report
from raysweep.train.trial import run_trial


class StrategySearcher(Searcher):
    """Asks the driver for trials. Results come through the scheduler, which knows the trial."""

    def __init__(self, driver: SearchDriver) -> None:
        super().__init__(metric=None, mode=None)
        self.driver = driver

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's configuration, none for now, or FINISHED."""
        spec = self.driver.start(trial_id)
        if spec is not None:
            return {"spec": spec}
        return Searcher.FINISHED if self.driver.is_idle and not self.driver.is_waiting else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Ends the trial, however it ended: its process is out of the way."""
        self.driver.on_end(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Does without: the Optuna study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Does without: the Optuna study remembers."""


class StrategyScheduler(FIFOScheduler):
    """Hands reports to the driver and stops what it says."""

    def __init__(self, driver: SearchDriver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.driver = driver
        self._kill: Callable[[], None] = lambda: None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remembers what kills the processes of trials."""
        self._kill = get_trial_killer(tune_controller)

    def kill_trials(self) -> None:
        """Kills the processes of all trials and gives back what they held; Ray Tune itself does so after errors only.

        Without it they train on where the driver's process lives on, as in a notebook: their handles are kept alive by
        the traceback. Where a signal ends the process it may have ended Ray, too, which then answers nothing.
        """
        if signals.received() is None and not is_lost():
            self._kill()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Returns STOP for a trial that is finished, weak or failed."""
        stop = self.driver.on_report(trial.trial_id, unpack_report(result))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Takes note of a trial whose process died."""
        lines = str(trial.get_error() or "the trial's process died").strip().splitlines()
        self.driver.on_death(trial.trial_id, lines[-1][:500])


class DriverLook(tune.Callback):
    """Lets the driver look around while trials run, and ends a search that is ending once none runs any more."""

    def __init__(self, driver: SearchDriver) -> None:
        self.driver = driver

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Looks; Ray Tune calls this several times a second.

        Raises:
            Interrupted: the search has ended; what waits for a node would never begin.
        """
        self.driver.look()
        if self.driver.is_ending and (
            signals.is_urgent() or not any(trial.status == Trial.RUNNING for trial in trials)
        ):
            raise signals.Interrupted


def run_trials(
    driver: SearchDriver,
    *,
    request: Request,
    concurrency: int,
    scratch: str,
) -> None:
    """Runs trials until the driver has no more, or is interrupted. Ray Tune's own files go to `scratch`.

    Raises:
        StorageError: the storage is at fault; what ran is to go on.
        Interrupted: a signal or somebody else has ended it; what ran is to go on.
    """
    scheduler = StrategyScheduler(driver)
    callbacks = [LossCheck(), OrphanCollector(), WaitingNotice(request), DriverLook(driver)]
    tuner = tune.Tuner(
        tune.with_resources(run_trial, tune_resources(request)),
        tune_config=tune.TuneConfig(
            search_alg=StrategySearcher(driver),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=concurrency,
            reuse_actors=request.num_workers == 1,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=scratch,
            verbose=0,
            callbacks=callbacks,
            progress_reporter=tune.CLIReporter(),  # silent, whereas that of notebooks clears the cell's output
        ),
    )
    try:
        with signals.softened(driver.end_softly):
            tuner.fit()
    except KeyboardInterrupt:
        scheduler.kill_trials()
        raise
    except Exception:  # of Ray Tune, whose own files are on a disk too, or Ray has ended by the same signal
        if driver.fault is None and not (driver.is_ending and signals.received() is not None):
            raise
    if driver.fault is not None:
        raise driver.fault
    if driver.is_ending:
        raise signals.Interrupted


def tune_resources(request: Request) -> tune.PlacementGroupFactory:
    """Returns what Ray Tune reserves for a trial: one worker's share, or next to nothing for the driver of several."""
    if request.num_workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])
    bundle = {"CPU": request.cpus_per_worker}
    return tune.PlacementGroupFactory(
        [{**bundle, "GPU": request.gpus_per_worker} if request.gpus_per_worker else bundle]
    )
