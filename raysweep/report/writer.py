"""Keeps the report of a run up to date while it goes on, and writes it once more when it ends."""

import contextlib
import shlex
import threading
import time
from collections.abc import Mapping

from raysweep import atomic_files
from raysweep.errors import StorageError, first_line
from raysweep.run_folder import RunFolder
from raysweep.search.observer import Observer
from raysweep.search.results import Results
from raysweep.storage_faults import say
from raysweep.trial_result import TrialResult

PERIOD_S = 10.0
"""The page is written no sooner after the last time, nor after the search begins."""
PATIENCE = 50
"""Nor sooner than so many times as long as that took: it costs the driver 2 % of a core."""
MAX_PERIOD_S = 60.0
"""But no later: a page that takes longer than 1.2 seconds costs more, and still is hardly older than a minute."""


def write_quietly(folder: RunFolder, storage_url: str | None = None) -> str | None:
    """Writes the report; returns a sentence where it cannot be written, whatever the cause: that ends no run.

    storage_url: of the Optuna storage with its password, where there is one.
    """
    try:
        from raysweep.report.page import write_report  # slow: plotly

        write_report(folder, storage_url)
    except Exception as error:
        return (
            f"{folder.report} could not be written ({type(error).__name__}: {first_line(error)}); nothing else is "
            f"lost, and `raysweep report {shlex.quote(str(folder.path))}` writes it"
        )
    return None


def write_if_stale(folder: RunFolder, storage_url: str | None = None) -> None:
    """Writes the report of a finished run whose last command was ended between its results and its report.

    storage_url: as of `write_quietly`.
    """
    is_fresh = folder.report.is_file() and folder.report.stat().st_mtime >= folder.results.stat().st_mtime
    if not is_fresh and (fault := write_quietly(folder, storage_url)) is not None:
        say(fault)


def choose_pause(duration_s: float) -> float:
    """Chooses how many seconds to wait after the page took `duration_s` to write."""
    return min(max(PERIOD_S, PATIENCE * duration_s), MAX_PERIOD_S)


class ReportWriter(contextlib.AbstractContextManager["ReportWriter"], Observer):
    """Writes the page in a thread of its own, as epochs and trials end, and a last time as the run ends.

    An event of the search only wakes the thread, which reads the run's folder for itself.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._is_due = threading.Event()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_failed = False
        self._storage_url: str | None = None

    def begin(self, storage_url: str | None = None) -> None:
        """Starts the thread: the run has a folder now, which is this command's, but for what a killed one left.

        storage_url: as of `write_quietly`.
        """
        self._storage_url = storage_url
        with contextlib.suppress(StorageError, OSError):  # who writes next says it
            atomic_files.remove_leftovers(self._folder.path)
        self._thread = threading.Thread(target=self._refresh, name="report", daemon=True)
        self._thread.start()

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Has the page written soon."""
        self._is_due.set()

    def trial_ended(self, result: TrialResult) -> None:
        """Has the page written soon."""
        self._is_due.set()

    def search_ended(self, results: Results) -> None:
        """Writes the page a last time, with the results."""
        self._end()

    def __exit__(self, *_: object) -> None:
        """Writes the page a last time, of a run that was begun and stopped or failed."""
        if self._thread is not None and not self._is_over.is_set():
            self._end()

    def _end(self) -> None:
        assert self._thread is not None
        self._is_over.set()
        self._is_due.set()
        self._thread.join()
        self._write()

    def _refresh(self) -> None:
        pause = PERIOD_S
        while not self._is_over.wait(pause):
            self._is_due.wait()
            self._is_due.clear()
            if self._is_over.is_set():
                return
            began = time.monotonic()
            self._write()
            pause = choose_pause(time.monotonic() - began)

    def _write(self) -> None:
        """Writes the page, and says the first time where that fails."""
        fault = write_quietly(self._folder, self._storage_url)
        if fault is not None and not self._has_failed:
            self._has_failed = True
            say(fault)
