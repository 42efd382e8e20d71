"""Launches trials on Ray Tune: those of a search, of finalists and of a probe."""

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysweep import atomic_files
from raysweep.cluster.capacity import Request
from raysweep.cluster.connection import list_potential_nodes
from raysweep.cluster.leftovers import hold_folder
from raysweep.cluster.lost_nodes import NodeWatch
from raysweep.cluster.lost_ray import run_on_ray
from raysweep.data.images import PreparedData
from raysweep.run_folder import SearchFolder
from raysweep.search.control import Control
from raysweep.search.disk_watch import DiskWatch
from raysweep.search.driver import SearchDriver
from raysweep.search.observer import Observer
from raysweep.search.ray_tune import run_trials
from raysweep.search.strategy.strategy import Strategy
from raysweep.storage_faults import guard_writing, patiently
from raysweep.study import Study
from raysweep.train.number_format import find_formats
from raysweep.train.trial import TrialSpec
from raysweep.trial_record import save_config
from raysweep.trial_result import Params


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchContext:
    """Holds what all trials that are run together have in common."""

    study: Study
    data: PreparedData
    request: Request
    """What each trial asks for."""
    concurrency: int
    """How many can run side by side, however many there are."""
    folder: SearchFolder
    """Where they write."""
    measured: bool = False
    """Whether they leave in their folders what they take of their nodes."""

    def find_deadline(self, searched_s: float) -> float | None:
        """Finds when, by the monotonic clock, no new trial starts any more; searched_s: what was used of the budget."""
        return time.monotonic() + self.study.budget.time_s - searched_s if self.study.budget.time_s else None


def launch_trials(
    context: SearchContext,
    strategy: Strategy,
    observers: Sequence[Observer],
    deadline: float | None = None,
    control: Control | None = None,
) -> None:
    """Runs the trials that the strategy says are to go on or to start, until there are no more.

    control: says what to do otherwise meanwhile; none: nobody does.
    Ray's own files go to a temporary folder, which all nodes have to see where there are several.

    Raises:
        StorageError: the storage is at fault; no trial is told to have failed by that.
        Interrupted: the search is to end; what ran goes on when it is resumed.
    """
    with guard_writing(context.folder.trials):
        context.folder.trials.mkdir(parents=True, exist_ok=True)
    _remove(context.folder.scratch)
    with tempfile.TemporaryDirectory(dir=hold_folder(), ignore_cleanup_errors=True) as local_scratch, quiet_tune():
        number_formats = find_formats(context.folder)
        scratch = Path(local_scratch) if len(list_potential_nodes()) == 1 else context.folder.scratch

        def build_spec(number: int, params: Params, num_reported: int) -> TrialSpec:
            spec = TrialSpec(
                number=number,
                config=strategy.trial_config(number, params),
                data=context.data,
                objective=context.study.objective,
                second_objective=context.study.second_objective,
                folder=context.folder.trial(number),
                request=context.request,
                scratch=scratch / "train",
                number_formats=number_formats,
                num_reported=num_reported,
                measured=context.measured,
            )
            patiently(lambda: atomic_files.make_folder(spec.folder.path))
            patiently(lambda: save_config(spec.folder.config, number, spec.config, context.data.info, params))
            atomic_files.remove(spec.folder.stop_file)
            return spec

        disk = DiskWatch(context.folder.path)
        driver = SearchDriver(strategy, build_spec, observers, deadline, NodeWatch(), disk, control)
        run_on_ray(
            lambda: run_trials(driver, request=context.request, concurrency=context.concurrency, scratch=str(scratch))
        )
    _remove(context.folder.scratch)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def quiet_tune() -> Iterator[None]:
    """Turns Ray Tune's own messages off: the live table and results.json say it."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray._private", "ray.air")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
