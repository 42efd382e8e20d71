"""Says on stderr how a search goes where no table is drawn: a line for each trial that ends, and one a minute."""

import time
from datetime import datetime

from raysweep.config import format_value
from raysweep.search.observer import Observer
from raysweep.search.progress import STATES, SearchProgress, Snapshot
from raysweep.stages import PERIOD_S, tell
from raysweep.trial_result import TrialResult

MAX_NAMED = 8
"""Running trials that a line names."""


class ProgressLines(Observer):
    """Prints the lines of a search, whose progress hears of each event first."""

    def __init__(self, progress: SearchProgress) -> None:
        self.progress = progress
        self._next = time.monotonic() + PERIOD_S

    def trial_ended(self, result: TrialResult) -> None:
        """Prints how the trial ended and how far the search is."""
        _tell(describe_end(result, self.progress.take_snapshot()))

    def time_passed(self) -> None:
        """Prints once a minute what runs and how far the search is."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PERIOD_S
            _tell(describe_running(self.progress.take_snapshot()))


def describe_end(result: TrialResult, now: Snapshot) -> str:
    """Says in a line number, state and value of a trial that has ended, and how far the search is."""
    value = "" if result.value is None else f", {now.metric} {format_value(result.value)}"
    error = f": {result.error}" if result.error else ""
    return (
        f"trial {result.number} {STATES[result.state]}{value}{error}; {now.describe_best()}; "
        f"{now.num_ended} of {now.num_trials} trials, {now.describe_time_left()}"
    )


def describe_running(now: Snapshot) -> str:
    """Says in a line what runs and how far the search is."""
    named = [
        f"trial {trial.number} at epoch {trial.epoch} of {trial.num_epochs}"
        + (f" with {format_value(trial.metrics[now.metric])}" if now.metric in trial.metrics else "")
        for trial in now.running
    ]
    more = [f"{len(named) - MAX_NAMED} more"] if len(named) > MAX_NAMED else []
    running = f" ({', '.join([*named[:MAX_NAMED], *more])})" if named else ""
    speed = f", {now.speed:,.0f} images/s" if now.speed else ""
    return f"{now.describe_counts()}{running}{speed}; {now.describe_best()}; {now.describe_time_left()}"


def _tell(text: str) -> None:
    tell(f"{datetime.now():%H:%M:%S} {text}")
