"""Ends a run: stores its results, and tells those who follow it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from raysweep import atomic_files
from raysweep.report.writer import ReportWriter
from raysweep.run_folder import RunFolder
from raysweep.search.notification import Notifier
from raysweep.search.observer import Observer
from raysweep.search.pareto import draw_front
from raysweep.search.results import Results, save_results
from raysweep.search.status import StatusFile
from raysweep.search.strategy.strategy import Strategy
from raysweep.stages import stage
from raysweep.tracking.dashboard_notes import leave_notes
from raysweep.tracking.tracker import Tracker


@dataclass(frozen=True, kw_only=True, slots=True)
class Followers:
    """Holds who follows a run in the driver."""

    status: StatusFile
    report: ReportWriter
    trackers: Sequence[Tracker]
    notifier: Notifier
    own: Sequence[Observer]
    """Of other packages."""

    @property
    def sync_command(self) -> str | None:
        """Returns what uploads offline W&B runs; none: there are none."""
        return next(filter(None, (tracker.sync_command for tracker in self.trackers)), None)


def end_run(folder: RunFolder, results: Results, strategy: Strategy, followers: Followers) -> None:
    """Stores the results and tells of them; where that is cut short, `folder.untold` has the next session tell.

    Raises:
        StorageError: the storage does not take the results.
    """
    atomic_files.write_text(folder.untold, "")
    save_results(folder, results)
    tell_end(folder, results, strategy, followers)


def tell_end(folder: RunFolder, results: Results, strategy: Strategy, followers: Followers) -> None:
    """Tells those who follow a run of its results; what fails of it says one sentence."""
    is_uploaded = any(tracker.is_online for tracker in followers.trackers)
    followers.status.enter("upload" if is_uploaded else "end")
    draw_front(folder, results)
    followers.report.search_ended(results)  # first: the dashboard and trackers take the report
    leave_notes(strategy.optuna_study, folder, results)
    with stage("upload to the trackers") if is_uploaded else contextlib.nullcontext():
        for observer in (*followers.trackers, followers.notifier, *followers.own):
            observer.search_ended(results)
    with contextlib.suppress(OSError):  # else they are told once more
        folder.untold.unlink()
