"""Writes what a run is doing to a small file in its folder, and reads it from any host that sees the folder."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from raysweep import atomic_files, config_fields, file_guard
from raysweep.config import format_value
from raysweep.errors import RaysweepError, StorageError, UsageError, first_line
from raysweep.run_folder import RunFolder
from raysweep.search.observer import Observer
from raysweep.search.progress import SearchProgress, Snapshot
from raysweep.search.session.lock import Holder, find_holder
from raysweep.storage_faults import say
from raysweep.trial_result import TrialResult

WHAT = "what a run is doing"
REMEDY = "remove it: what it had used of a time budget is lost, nothing else"
SCHEMA_VERSION = 1
PERIOD_S = 1.0
"""How often the file is written at most, but for trials that start or end."""
HEARTBEAT_S = 10.0
"""How often it is written at least while trials run."""
AFTER_RESULTS = ("upload", "end")
"""Stages in which the results are stored: --resume finds nothing to compute, however such a session ended."""
SEARCH = "search"
"""The stage whose time the time budget is."""
FINALISTS = "finalists"
"""The other stage in which trials train."""
End = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """Says what a run was doing when its driver wrote it."""

    host: str
    """The driver's."""
    pid: int
    began: str
    """When the session began, as ISO 8601 with UTC."""
    updated: str
    stage: str
    end: End | None = None
    """How the session ended; none: it has not, or was killed."""
    error: str | None = None
    """Why it failed."""
    search: Snapshot | None = None
    """Of the trials that run, else of the search's; none: none have."""
    searched_s: float = 0.0
    """Seconds that the search has taken, in all sessions."""


class StatusFile(Observer):
    """Keeps the status of a run up to date while it is open; what cannot be written is left out."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._stage = "preparation"
        self._search: SearchProgress | None = None
        self._progress: SearchProgress | None = None
        self._searched_s = load_searched_s(folder)
        self._search_began: float | None = None
        self._began = _now()
        self._written = 0.0

    def __enter__(self) -> "StatusFile":
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end: End = "finished" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
        self._write(end, first_line(error) if end == "failed" and error is not None else None)

    def enter(self, stage: str, progress: SearchProgress | None = None) -> None:
        """Begins a stage; progress: of trials that run in it."""
        self._searched_s, self._search_began = self.searched_s, time.monotonic() if stage == SEARCH else None
        self._search = progress if stage == SEARCH else self._search
        self._stage, self._progress = stage, progress or self._search
        self._write()

    @property
    def searched_s(self) -> float:
        """Returns the seconds that the search has taken, in all sessions."""
        now_s = 0.0 if self._search_began is None else time.monotonic() - self._search_began
        return self._searched_s + now_s

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Writes it."""
        self._write()

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Writes it, if that is not just done."""
        self._write_after(PERIOD_S)

    def trial_ended(self, result: TrialResult) -> None:
        """Writes it."""
        self._write()

    def time_passed(self) -> None:
        """Writes it now and then, so that one can see when the driver was last at work."""
        self._write_after(HEARTBEAT_S)

    def _write_after(self, period_s: float) -> None:
        if time.monotonic() - self._written >= period_s:
            self._write()

    def _write(self, end: End | None = None, error: str | None = None) -> None:
        self._written = time.monotonic()
        if not self.folder.path.is_dir():  # it is made once the images are decoded
            return
        status = RunStatus(
            host=socket.gethostname(),
            pid=os.getpid(),
            began=self._began,
            updated=_now(),
            stage=self._stage,
            end=end,
            error=error,
            search=None if self._progress is None else self._progress.take_snapshot(),
            searched_s=round(self.searched_s, 1),
        )
        with contextlib.suppress(StorageError, OSError, ValueError):  # ValueError: a value is infinite
            values = {"schema_version": SCHEMA_VERSION, **config_fields.to_json(status)}
            atomic_files.write_json(self.folder.status, values, checksum=True, sync=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenStatus:
    """Says in which state a run is, and what its driver has written of it."""

    run: str
    """Its folder."""
    state: Literal["running"] | End
    """`interrupted` is also a run that was killed."""
    holder: Holder | None = None
    """The process that works in the folder; none: none does."""
    written: RunStatus | None = None
    """None: the run is from before such a file was written."""

    @property
    def stage(self) -> str | None:
        """Returns what the process that works in the folder does; none: that is not written."""
        ours = self.holder is not None and (self.holder.host, self.holder.pid)
        is_current = self.written is not None and (self.written.host, self.written.pid) == ours
        return self.written.stage if self.written is not None and is_current else None


def look_at_run(folder: RunFolder) -> SeenStatus:
    """Looks at the files of a run, from any host that sees them.

    Raises:
        UsageError: it is not the folder of a run.
        CorruptFileError: the status is damaged, or this user may not read the folder.
    """
    with file_guard.guard(folder.path, "the files of a run"):
        is_run = folder.study.is_file() or folder.lock.is_file()
    if not is_run and folder.path.exists():
        raise UsageError(f"{folder.path} is not the folder of a run: it has no {folder.study.name}")
    if not is_run:
        raise UsageError(
            f"there is no {folder.path}: a run that has just begun is still being prepared, and has its folder once "
            "its images are decoded; look again then, or give the folder of another run"
        )
    holder = find_holder(folder)
    written = _load(folder)
    is_whole = written is None or written.stage in AFTER_RESULTS
    end: End = "finished" if is_whole and folder.results.is_file() else "interrupted"
    if written is not None and written.end is not None and written.stage not in AFTER_RESULTS:
        end = written.end
    return SeenStatus(run=str(folder.path), state=end if holder is None else "running", holder=holder, written=written)


def load_searched_s(folder: RunFolder) -> float:
    """Loads the seconds that the search has taken, in all sessions: 0 where that is not known."""
    try:
        written = _load(folder)
    except RaysweepError as error:
        say(f"how long the search has taken is not known, and a time budget begins anew: {error}")
        return 0.0
    return 0.0 if written is None else written.searched_s


def _load(folder: RunFolder) -> RunStatus | None:
    if not os.path.lexists(folder.status):
        return None
    status: RunStatus = file_guard.read_json(folder.status, WHAT, REMEDY, _from_json)
    return status


def _from_json(values: Mapping[str, Any]) -> RunStatus:
    file_guard.check_version(WHAT, values, SCHEMA_VERSION)
    return config_fields.from_json(RunStatus, values)


def describe_status(seen: SeenStatus) -> str:
    """Says for a person what a run does, and how far it is."""
    written, holder = seen.written, seen.holder
    doing = ""
    if holder is not None:
        doing = f", {seen.stage or 'its preparation, or another command'} (process {holder.pid} on {holder.host})"
    lines = [f"{seen.run}: {seen.state}{doing}"]
    if seen.state == "interrupted":
        lines.append("go on with it by the command that began it and --resume")
    if written is not None and written.error:
        lines.append(f"error: {written.error}")
    if written is not None and written.search is not None:
        lines += _describe_search(written.search, is_running=seen.stage in (SEARCH, FINALISTS))
    if written is not None:
        lines.append(f"written at {written.updated}")
    return "\n".join(lines)


def _describe_search(search: Snapshot, *, is_running: bool) -> list[str]:
    lines = [search.describe_counts(), search.describe_best()]
    if not is_running:
        lines[0] = lines[0].partition(";")[0]
    for trial in search.running:
        value = f", {search.metric} {format_value(trial.metrics[search.metric])}" if trial.metrics else ""
        left = "" if is_running else ", to go on"
        lines.append(f"  trial {trial.number}: epoch {trial.epoch} of {trial.num_epochs}{value}{left}")
    return [*lines, f"{search.speed:,.0f} images/s, {search.describe_time_left()}"] if is_running else lines


def _now() -> str:
    return datetime.now(UTC).isoformat("T", "seconds")
