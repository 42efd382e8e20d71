"""Lists the runs in a storage: the state of each, its best value, lift, age and size."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from raysweep import config_fields, file_guard
from raysweep.atomic_files import Json
from raysweep.config import format_value
from raysweep.errors import RaysweepError, UsageError, first_line
from raysweep.report.run_view import RunView, load_view
from raysweep.run_folder import RunFolder
from raysweep.runs.table import draw_table
from raysweep.search.ranking import rank_results
from raysweep.stages import format_duration
from raysweep.storage_faults import format_bytes

State = Literal["running", "finished", "interrupted", "failed", "damaged"]
NOT_YET = "–"
"""Stands for a value that there is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEntry:
    """Describes one run in a line."""

    name: str
    """The run's folder in the storage."""
    state: State
    """running: a command works on it; interrupted: there is work to do; failed: no trial completed."""
    study: str | None = None
    task: str | None = None
    objective: str | None = None
    num_ended: int | None = 0
    """Trials that have ended; none: the database that knows is out of reach."""
    num_asked: int | None = None
    """Trials that were asked for."""
    best: float | None = None
    """The best value of the objective, of validation images."""
    best_trial: int | None = None
    baseline: float | None = None
    lift: Any = None
    """Over the baseline on the test images, as results.json has it."""
    data_digest: str | None = None
    began: datetime | None = None
    """When its first trial began."""
    size_bytes: int = 0
    problem: str | None = None
    """What is damaged, or out of reach."""

    def to_json(self) -> Json:
        """Returns plain JSON values."""
        return config_fields.to_json(self)


def list_runs(storage: Path) -> list[RunEntry]:
    """Lists the runs in a storage, the one that began last first; those that have no trial before it.

    Raises:
        UsageError: there is no such folder.
    """
    entries = [describe_run(folder) for folder in find_runs(storage)]
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(entries, key=lambda entry: entry.began or latest, reverse=True)


def find_runs(storage: Path) -> list[RunFolder]:
    """Finds the folders of runs in a storage, by name.

    Raises:
        UsageError: there is no such folder.
        CorruptFileError: this user may not read it.
    """
    if not storage.is_dir():
        raise UsageError(f"STORAGE must be the folder that runs are in, as `tune --storage` names it, got {storage}")
    with file_guard.guard(storage, "runs"):
        folders = [RunFolder(path) for path in sorted(storage.iterdir()) if path.is_dir()]
    return [folder for folder in folders if _is_run(folder)]


def _is_run(folder: RunFolder) -> bool:
    """Tells whether a folder is a run's; one that this user may not read may be, and is said to be unreadable."""
    try:
        return folder.study.is_file()
    except PermissionError:
        return not folder.path.name.startswith(".")


def describe_run(folder: RunFolder) -> RunEntry:
    """Describes a run; one that is damaged has only what can be read."""
    try:
        return describe_view(load_view(folder, with_histories=False))
    except RaysweepError as error:
        size_bytes = measure_size(folder.path)
        return RunEntry(name=folder.path.name, state="damaged", size_bytes=size_bytes, problem=first_line(error))


def describe_view(view: RunView) -> RunEntry:
    """Describes a run by what has been read of it."""
    ended = view.ended
    best = next(iter(rank_results(ended, view.objectives)), None)
    return RunEntry(
        name=view.folder.path.name,
        state="running" if view.is_running else find_outcome(view),
        study=view.study["name"],
        task=view.study["task"]["kind"],
        objective=view.objectives[0].metric,
        num_ended=None if view.out_of_reach and view.results is None else len(ended),
        num_asked=view.study["budget"]["trials"],
        best=best.value if best else None,
        best_trial=best.number if best else None,
        baseline=view.baseline.value if view.baseline else None,
        lift=view.results and dict(view.results.test.lift),
        data_digest=view.record.data_digest,
        began=find_begin(view),
        size_bytes=measure_size(view.folder.path),
        problem=next(iter(view.problems), None),
    )


def find_outcome(view: RunView) -> State:
    """Finds the state of a run on which no command works."""
    ended = view.ended
    if view.faults:
        return "damaged"
    is_whole = view.results is not None and len(view.results.trials) == len(ended)
    if is_whole and all(trial.state.is_finished() for trial in view.trials):
        return "finished"
    all_failed = bool(ended) and all(result.state == "FAIL" for result in ended)
    return "failed" if all_failed and len(ended) >= view.study["budget"]["trials"] else "interrupted"


def find_begin(view: RunView) -> datetime | None:
    """Finds when the first trial of a run began; none: none has."""
    return min((trial.datetime_start.astimezone(UTC) for trial in view.trials if trial.datetime_start), default=None)


def measure_size(path: Path) -> int:
    """Adds up the sizes of the files in a folder, links not followed; what vanishes meanwhile is not counted."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def describe_runs(entries: Iterable[RunEntry], now: datetime) -> str:
    """Draws a table of runs for a person, with what is damaged below."""
    entries = list(entries)
    header = ("run", "study", "state", "trials", "objective", "best", "baseline", "lift on test images", "age", "size")
    rows = [
        (
            entry.name,
            entry.study or NOT_YET,
            entry.state,
            f"{NOT_YET if entry.num_ended is None else entry.num_ended}/{entry.num_asked or NOT_YET}",
            entry.objective or NOT_YET,
            format_or_dash(entry.best),
            format_or_dash(entry.baseline),
            describe_lift(entry.lift),
            format_age((now - entry.began).total_seconds()) if entry.began else NOT_YET,
            format_bytes(entry.size_bytes),
        )
        for entry in entries
    ]
    problems = [f"{entry.name}: {entry.problem}" for entry in entries if entry.problem]
    return "\n".join([*draw_table(header, rows), *([""] if problems else []), *problems])


def format_or_dash(value: float | None) -> str:
    """Formats a figure; a dash where there is none."""
    return NOT_YET if value is None else format_value(value)


def describe_lift(lift: Any) -> str:
    """Shortens a lift to its number and interval; none where results.json has no number, which is up to the task."""
    difference, *ends = ((lift or {}).get(name) for name in ("difference", "low", "high"))
    if not isinstance(difference, int | float):
        return NOT_YET
    signed = [format_signed(end) for end in ends if isinstance(end, int | float)]
    return (
        f"{format_signed(difference)} ({' to '.join(signed)})"
        if len(signed) == len(ends)
        else format_signed(difference)
    )


def format_signed(value: float) -> str:
    """Formats a difference with its sign and as many digits as an objective."""
    return f"{'+' if value >= 0 else '-'}{format_value(abs(value))}"


def format_age(seconds: float) -> str:
    """Formats an age: as a duration up to two days, then in days."""
    return f"{seconds / 86400:.0f} d" if seconds >= 2 * 86400 else format_duration(max(seconds, 0.0))
