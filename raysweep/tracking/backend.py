"""Defines what a tracker's library is asked to do, and what it is told of the run. Imports no tracker."""

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysweep.atomic_files import Json
from raysweep.data.images import DataInfo
from raysweep.run_folder import RunFolder, TrialFolder
from raysweep.search.ranking import rank_results
from raysweep.search.results import Results
from raysweep.study import Study
from raysweep.train.history import History
from raysweep.trial_result import BASELINE, Params, TrialResult


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """Holds what trackers know of a run before its first trial."""

    folder: RunFolder
    run_id: str
    name: str
    study: Study
    data: DataInfo

    @property
    def tags(self) -> list[str]:
        """Returns the words by which its runs are found; W&B takes 64 letters of each."""
        return [self.study.name[:64], self.study.task.kind[:64], *(["synthetic"] if self.data.synthetic else [])]

    def find_best(self, trials: Sequence[TrialResult]) -> TrialResult | None:
        """Finds the trial that leads; none where none completed."""
        return next(iter(rank_results(trials, self.study.objectives)), None)

    def describe(self) -> Json:
        """Returns the study and the facts of its images, as JSON."""
        data = {
            "digest": self.data.digest,
            "source": self.data.source,
            "synthetic": self.data.synthetic,
            "num_classes": len(self.data.classes),
            "num_train": self.data.num_train,
            "num_val": self.data.num_val,
            "num_test": self.data.num_test,
        }
        return {"run_id": self.run_id, "study": self.study.to_json(), "data": data}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedTrial:
    """Describes a trial that starts, or goes on."""

    number: int
    is_finalist: bool
    """Whether it trains a configuration of the search again."""
    finalist_of: int | None
    """Number of the trial whose configuration that is; none: it is no finalist."""
    config: Json
    params: Params
    epochs: History
    """Metrics of the epochs that ended in earlier sessions."""
    folder: TrialFolder

    @property
    def name(self) -> str:
        """Returns a name that no other training of the run has."""
        return name_trial(self.number, is_finalist=self.is_finalist)

    @property
    def is_baseline(self) -> bool:
        """Tells whether it is the study's own configuration."""
        return (self.finalist_of if self.is_finalist else self.number) == BASELINE

    @property
    def facts(self) -> Json:
        """Returns what identifies it beside its configuration."""
        return {"trial": self.number, **({"finalist_of": self.finalist_of} if self.is_finalist else {})}


def name_trial(number: int, *, is_finalist: bool) -> str:
    """Returns the name of a training: finalists have numbers of their own."""
    return f"{'finalist-' * is_finalist}{number:04d}"


class Backend:
    """Writes what happens in a search with a tracker's library.

    A `Tracker` calls it on one thread, in order, and says what it raises; after an error in `open` nothing follows.
    """

    title: str
    """What messages call it."""
    finish_s = 120.0
    """Time that it is given to end in."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        self.problem: str | None = None
        """What a person should know at the end; none: all went well."""

    def open(self) -> None:
        """Begins, or goes on with, the record of the whole study."""

    def find_open(self, names: Sequence[str]) -> Sequence[str]:
        """Finds those of the trials that ended in earlier sessions whose records lack the end, as far as is known."""
        return ()

    def start_trial(self, trial: TrackedTrial) -> None:
        """Begins, or goes on with, the record of a trial; epochs of earlier sessions that it lacks are filled in."""

    def log_epoch(self, name: str, epoch: int, metrics: Json) -> None:
        """Records an epoch of the trial of that name."""

    def end_trial(self, name: str, result: TrialResult) -> None:
        """Ends the record of a trial."""

    def set_num_trials(self, num_trials: int) -> None:
        """Takes note that the search is to have another number of trials than it began with."""

    def log_progress(self, trials: Sequence[TrialResult]) -> None:
        """Records how far the search is; trials: all that have ended, in the order of their ends."""

    def log_results(self, results: Results) -> None:
        """Records what the run found, and ends its record."""

    def close(self) -> None:
        """Ends what is still open: the search was interrupted, or failed."""

    def describe_error(self, error: Exception) -> str:
        """Returns the type and the first line of an error's message."""
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

    @property
    def is_online(self) -> bool:
        """Tells whether records are sent to a server as they are made."""
        return False

    @property
    def sync_command(self) -> str | None:
        """Returns the command that uploads what was recorded; none: there is nothing to upload."""
        return None

    @property
    def viewer(self) -> str | None:
        """Returns the command that shows what was recorded; none: a server of its own does."""
        return None


def hide_password(url: str) -> str:
    """Returns the URL of a server without what stands before its host."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def list_files(folder: Path, *patterns: str) -> list[Path]:
    """Lists the files of a folder that match one of the patterns, by name."""
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
