"""Tells trackers of a search, on a thread for each: a slow or unreachable server holds up no trial and fails no run."""

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from raysweep import signals
from raysweep.announcement import announce
from raysweep.atomic_files import Json
from raysweep.errors import RaysweepError
from raysweep.run_folder import SearchFolder, TrialFolder
from raysweep.search.observer import Observer
from raysweep.search.ranking import point_key
from raysweep.search.results import Results
from raysweep.storage_faults import say
from raysweep.tracking.backend import Backend, TrackedTrial, name_trial
from raysweep.train.history import History, load_history
from raysweep.trial_record import load_trial
from raysweep.trial_result import TrialResult

INTERRUPTED_TIMEOUT_S = 15.0
"""Of all records together, where a signal ends the command: whoever sent it kills soon."""
LAST_S = 4.0
"""Of the time that a signal leaves what stays for notifications and the report, which come after the records."""


class Tracker(Observer):
    """Follows a search for one tracker; `search_ended` records the study's results."""

    def __init__(self, backend: Backend, ended: Sequence[TrialResult] = ()) -> None:
        """Takes the trials that ended in earlier sessions, too."""
        self.backend = backend
        self._ended = list(ended)
        self._folder: SearchFolder = backend.run.folder
        self._searched: dict[str, int] | None = None
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._queue_ends(ended)
        self._is_ending = self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def begin_finalists(self, chosen: Sequence[TrialResult], ended: Sequence[TrialResult] = ()) -> None:
        """Takes what follows as trainings of finalists.

        chosen: the trials whose configurations these are. ended: the trainings that did in earlier sessions.
        """
        self._folder = self.backend.run.folder.finalists
        self._searched = {point_key(trial.params): trial.number for trial in chosen}
        self._queue_ends(ended)

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Begins the trial's record with its whole configuration."""
        trial = _describe_trial(self._folder.trial(number), self._searched, config, params)
        self._queue.put(lambda: self.backend.start_trial(trial))

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Records an epoch."""
        name = self._name(number)
        self._queue.put(lambda: self.backend.log_epoch(name, int(metrics["epoch"]), dict(metrics)))

    def trial_ended(self, result: TrialResult) -> None:
        """Ends the trial's record with its state and best value."""
        name = self._name(result.number)
        self._queue.put(lambda: self.backend.end_trial(name, result))
        if self._searched is None:
            self._ended.append(result)
            ended = tuple(self._ended)
            self._queue.put(lambda: self.backend.log_progress(ended))

    def set_num_trials(self, num_trials: int) -> None:
        """Takes note of how many trials somebody has told the running search to have."""
        self._queue.put(lambda: self.backend.set_num_trials(num_trials))

    def search_ended(self, results: Results) -> None:
        """Records what the run found: tables, test figures, pictures, reports and the best model."""
        self._queue.put(lambda: self.backend.log_results(results))
        self.close()
        if self.backend.problem is None and self.backend.viewer is not None:
            say(f"{self.backend.title}: {self.backend.viewer}")

    @property
    def is_online(self) -> bool:
        """Tells whether records are sent to a server as they are made."""
        return self.backend.is_online

    @property
    def sync_command(self) -> str | None:
        """Returns the command that uploads what was recorded; none: there is nothing to upload."""
        return self.backend.sync_command

    def end(self) -> None:
        """Ends, without a wait, the records of trials that an interrupted search leaves behind, and all others."""
        if not self._is_ending:
            self._is_ending = True
            self._queue.put(self.backend.close)
            self._queue.put(None)

    def close(self, deadline: float = math.inf) -> None:
        """Waits until all is written, where a signal ends the command until `deadline` by the monotonic clock."""
        if self._is_closed:
            return
        self.end()
        backend = self.backend
        limit_s = backend.finish_s if signals.received() is None else INTERRUPTED_TIMEOUT_S
        with announce(f"{backend.title} to finish"):
            self._thread.join(max(0.0, min(limit_s, deadline - time.monotonic())))
        self._is_closed = (
            True  # not where a signal ended the wait: then it goes on for a while, when all else is closed
        )
        if self._thread.is_alive():
            backend.problem = backend.problem or "it did not finish in time"
        if backend.problem:
            where = backend.run.folder.path
            say(f"{backend.title}: {backend.problem}; the results in {where} are whole all the same")

    def _queue_ends(self, ended: Sequence[TrialResult]) -> None:
        """Queues the ends of trials of earlier sessions that the records lack: no session trains them again.

        Their driver was killed, or had no time left for a slow server.
        """
        if not ended:
            return
        folder, searched = self._folder, self._searched  # they may be others by the time of the call
        results = {self._name(result.number): result for result in ended}

        def end_open() -> None:
            names = self.backend.find_open(list(results))
            for name in names:
                result = results[name]
                place = folder.trial(result.number)
                trial = _describe_trial(place, searched, _load_config(place), result.params)
                if self._try(partial(self.backend.start_trial, trial)):
                    self._try(partial(self.backend.end_trial, name, result))
            if names and searched is None:
                self.backend.log_progress(list(results.values()))

        self._queue.put(end_open)

    def _name(self, number: int) -> str:
        return name_trial(number, is_finalist=self._searched is not None)

    def _work(self) -> None:
        if not self._try(self.backend.open, "nothing is logged: "):
            self._try(self.backend.close)
            return
        while (action := self._queue.get()) is not None:
            self._try(action)

    def _try(self, action: Callable[[], None], consequence: str = "") -> bool:
        try:
            action()
        except Exception as error:  # tracking never ends a study
            self.backend.problem = self.backend.problem or consequence + self.backend.describe_error(error)
            return False
        return True


def close_trackers(trackers: Sequence[Tracker]) -> None:
    """Closes trackers side by side; where a signal ends the command in INTERRUPTED_TIMEOUT_S together, or less."""
    for tracker in trackers:
        tracker.end()
    deadline = math.inf
    if signals.received() is not None:
        deadline = time.monotonic() + min(INTERRUPTED_TIMEOUT_S, max(0.0, signals.time_left_s() - LAST_S))
    for tracker in trackers:
        tracker.close(deadline)


def _describe_trial(
    folder: TrialFolder, searched: Mapping[str, int] | None, config: Mapping[str, Any], params: Mapping[str, Any]
) -> TrackedTrial:
    """Describes a trial that starts, goes on or has ended.

    searched: of finalists the numbers of the trials in the search, by their points; none: it is no finalist.
    """
    return TrackedTrial(
        number=folder.number,
        is_finalist=searched is not None,
        finalist_of=(searched or {}).get(point_key(params)),
        config=dict(config),
        params=dict(params),
        epochs=_load_epochs(folder),
        folder=folder,
    )


def _load_epochs(folder: TrialFolder) -> History:
    """Loads the epochs of earlier sessions; a damaged file, which the trial itself will report, has none."""
    try:
        return load_history(folder)
    except RaysweepError:
        return []


def _load_config(folder: TrialFolder) -> Json:
    """Loads the configuration of a trial that ended; empty where it is damaged or gone."""
    try:
        return load_trial(folder).config.to_json()
    except RaysweepError:
        return {}
