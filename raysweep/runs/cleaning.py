"""Finds what may be deleted of runs and of their storage, and deletes it.

Nothing goes that a command needs: not the best model, the baseline's, those on the Pareto front or those that the final
evaluation compares, nothing of a run on which a command works, and of an unfinished one nothing that `--resume` goes on
with.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from raysweep import config_fields
from raysweep.atomic_files import Json, remove
from raysweep.data.images import PreparedData
from raysweep.errors import CorruptFileError, RaysweepError, RefusedFileError, UsageError, first_line
from raysweep.file_guard import guard
from raysweep.report.run_view import RunView, load_view
from raysweep.run_folder import RunFolder, SearchFolder, cache_folder
from raysweep.runs.listing import find_outcome, find_runs, measure_size
from raysweep.search.ranking import rank_results
from raysweep.search.session.lock import hold_lock, is_locked
from raysweep.storage_faults import guard_writing
from raysweep.trial_record import load_trial
from raysweep.trial_result import BASELINE, TrialResult

Kind = Literal["weights", "checkpoints", "replay", "damaged file", "leftover", "decoded images"]
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}|\.tmp.*")
"""Names of files that are being written, by us or by safetensors."""
LEFTOVER_AGE_S = 24 * 3600.0
"""A temporary folder in a storage that nothing has written to for so long is nobody's any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Removable:
    """Names a file or folder that may be deleted, and why."""

    path: Path
    kind: Kind
    why: str
    size_bytes: int


@dataclass(kw_only=True, slots=True)
class Cleaning:
    """Holds what may be deleted, or has been, and what was passed over."""

    items: list[Removable] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    """Why a run or the storage's decoded images stay as they are, a sentence each."""
    is_done: bool = False
    """Whether the items have been deleted."""

    @property
    def size_bytes(self) -> int:
        """Adds up the sizes of all items."""
        return sum(item.size_bytes for item in self.items)

    def to_json(self) -> Json:
        """Returns plain JSON values."""
        items = [config_fields.to_json(item) for item in self.items]
        return {
            "size_bytes": self.size_bytes,
            "deleted": self.is_done,
            "items": items,
            "passed_over": list(self.passed_over),
        }


def clean(place: Path, *, delete: bool) -> Cleaning:
    """Finds what may be deleted of a run or of all runs in a storage and of the storage itself, and deletes it if said.

    Raises:
        UsageError: there is neither a run nor a storage.
        StorageError: the storage does not let go of a file.
    """
    run = RunFolder(place)
    cleaning = Cleaning()
    with guard(place, "the files of a run or of a storage"):
        is_run = run.study.is_file()
    if is_run:
        _clean_run(run, cleaning, delete=delete)
    else:
        runs = find_runs(place)
        if not runs and not cache_folder(place).is_dir():
            raise UsageError(f"the folder of a run or a storage with runs is cleaned, got {place}, which is neither")
        for folder in runs:
            _clean_run(folder, cleaning, delete=delete)
        _take(_find_in_storage(place, runs, cleaning), cleaning, delete=delete)
    cleaning.is_done = delete
    return cleaning


def _clean_run(folder: RunFolder, cleaning: Cleaning, *, delete: bool) -> None:
    """Cleans a run; while something is deleted no other command may work on it."""
    try:
        if delete:
            with hold_lock(folder):
                _take(_find_in_run(load_view(folder, with_histories=False)), cleaning, delete=True)
        elif is_locked(folder):
            cleaning.passed_over.append(f"{folder.path}: a command works on it")
        else:
            _take(_find_in_run(load_view(folder, with_histories=False)), cleaning, delete=False)
    except (UsageError, CorruptFileError) as error:
        cleaning.passed_over.append(f"{folder.path}: {first_line(error)}")


def _take(items: Sequence[Removable], cleaning: Cleaning, *, delete: bool) -> None:
    for item in items:
        if delete and item.path.is_dir() and not item.path.is_symlink():
            with guard_writing(item.path):
                shutil.rmtree(item.path)
        elif delete:
            remove(item.path)
        cleaning.items.append(item)


def _find_in_run(view: RunView) -> list[Removable]:
    """Finds what may be deleted of a run on which no command works.

    Raises:
        CorruptFileError: a file of it is damaged: a person is to look first.
        UsageError: what has become of its trials is in a database that is out of reach.
    """
    if view.out_of_reach is not None:
        raise UsageError(view.out_of_reach)
    ended, folder = view.ended, view.folder
    outcome = find_outcome(view)
    if outcome == "damaged":
        raise CorruptFileError(f"it is damaged: {view.faults[0]}")
    items = [*_find_failed(folder, ended)]
    if outcome == "finished":
        items += [*_find_weights(view, ended), *_find_weights_of_finalists(view)]
    if folder.replays.path.is_dir():
        items += [_describe(t.path, "replay", "of a trial trained again") for t in folder.replays.list_trials()]
    if folder.scratch.is_dir():
        items.append(_describe(folder.scratch, "leftover", "Ray's own files, of a command that was killed"))
    under = [item.path for item in items]
    items += [item for item in _find_files(folder) if not any(item.path.is_relative_to(path) for path in under)]
    return items


def _find_failed(folder: SearchFolder, ended: Sequence[TrialResult]) -> Iterator[Removable]:
    """Finds what failed trials have left: nothing goes on with it."""
    for result in ended:
        trial = folder.trial(result.number)
        if result.state == "FAIL":
            if trial.last.is_dir():
                yield _describe(trial.last, "checkpoints", f"trial {result.number} failed")
            if trial.best.is_dir():
                yield _describe(trial.best, "weights", f"trial {result.number} failed")


def _find_weights(view: RunView, ended: Sequence[TrialResult]) -> Iterator[Removable]:
    """Finds the weights of a finished run's trials that nothing reads any more."""
    kept = _choose_kept(view, ended)
    ranked = [result.number for result in rank_results(ended, view.objectives)]
    for result in ended:
        trial = view.folder.trial(result.number)
        if result.state != "FAIL" and result.number not in kept and trial.best.is_dir():
            place = f", place {ranked.index(result.number) + 1}" if result.number in ranked else ""
            yield _describe(trial.best, "weights", f"trial {result.number}{place}: neither best nor baseline")


def _find_weights_of_finalists(view: RunView) -> Iterator[Removable]:
    """Finds the weights of finalists but of the winner and the baseline, which the final evaluation measures."""
    assert view.results is not None
    record = view.results.finalists
    if record is None:
        return
    for found in record.configurations:
        for number in () if found.trial in (BASELINE, record.winner) else found.trainings:
            weights = view.folder.finalists.trial(number).best
            if weights.is_dir():
                yield _describe(weights, "weights", f"finalist {number}, of trial {found.trial}: did not win")


def _choose_kept(view: RunView, ended: Sequence[TrialResult]) -> set[int]:
    """Chooses which trials of a finished run keep their weights; all, where the code that says so may not be run."""
    assert view.results is not None
    with_weights = [result for result in ended if view.folder.trial(result.number).best.is_dir()]
    kept = {BASELINE, view.results.best.number, *view.results.pareto_front}
    kept |= {result.number for result in rank_results(with_weights, view.objectives)[:1]}
    best_of_groups: dict[object, TrialResult] = {}
    for result in with_weights:
        try:
            group = load_trial(view.folder.trial(result.number)).config.task.comparison_group
        except RefusedFileError:
            return {result.number for result in ended}
        best = best_of_groups.get(group)
        if result.value is not None and view.objectives[0].is_better(result.value, best.value if best else None):
            best_of_groups[group] = result
    best_of_groups.pop(None, None)
    return kept | {result.number for result in best_of_groups.values()}


def _find_files(folder: RunFolder) -> Iterator[Removable]:
    """Finds files in a run that a killed process had begun to write, or that were moved aside as damaged."""
    for path in sorted(folder.path.rglob("*")):
        if path.is_relative_to(folder.wandb) or not path.is_file() or path.is_symlink():
            continue
        if TEMPORARY.fullmatch(path.name):
            yield _describe(path, "leftover", "a process was killed while it wrote it")
        elif path.suffix == ".damaged":
            yield _describe(path, "damaged file", "it was moved aside, and made again")


def _find_in_storage(storage: Path, runs: Sequence[RunFolder], cleaning: Cleaning) -> list[Removable]:
    """Finds decoded images that no unfinished run has use for, and folders that killed processes have left."""
    old = time.time() - LEFTOVER_AGE_S
    hidden = [*storage.glob(".plan-*"), *(p for p in cache_folder(storage).glob(".*") if TEMPORARY.fullmatch(p.name))]
    items = [_describe(path, "leftover", "a command was killed") for path in hidden if _last_written(path) < old]
    try:
        needed = {digest for folder in runs if (digest := _find_needed(folder)) is not None}
    except RaysweepError as error:
        cleaning.passed_over.append(f"decoded images: a run that may need them cannot be read: {first_line(error)}")
        return items
    for path in sorted(cache_folder(storage).glob("*")):
        if not (path / "info.json").is_file() or path.is_symlink():
            continue
        reason = _explain_stay(path, needed)
        if reason is not None:
            cleaning.passed_over.append(f"{path}: {reason}")
            continue
        why = "decoded again where a command needs it, if the image files are still there"
        test = path.with_name(f"{path.name}-test")
        items += [_describe(each, "decoded images", why) for each in (path, test) if each.is_dir()]
    return items


def _find_needed(folder: RunFolder) -> str | None:
    """Finds the digest of the images of a run that is not finished; none of one that is.

    Raises:
        RaysweepError: it cannot be read.
    """
    view = load_view(folder, with_histories=False)
    if view.problems:
        raise CorruptFileError(view.problems[0])
    is_over = not view.is_running and find_outcome(view) in ("finished", "failed")
    return None if is_over else view.record.data_digest


def _explain_stay(path: Path, needed: set[str]) -> str | None:
    """Says why decoded images stay; none: they may go."""
    others = {entry.name for entry in path.iterdir()} - {"info.json", "train", "val"}
    if any(not name.startswith(".") for name in others):
        return f"it has {', '.join(sorted(others))}, by which other runs are judged"
    try:
        digest = PreparedData.load(path).info.digest
    except CorruptFileError:
        return None  # decoded again anyway
    return "an unfinished run needs it" if digest in needed else None


def _last_written(path: Path) -> float:
    return max((entry.lstat().st_mtime for entry in (path, *path.rglob("*"))), default=0.0)


def _describe(path: Path, kind: Kind, why: str) -> Removable:
    size = measure_size(path) if path.is_dir() else path.lstat().st_size
    return Removable(path=path, kind=kind, why=why, size_bytes=size)
