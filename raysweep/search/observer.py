"""Observers of a search: told of each event, in order, in the driver. Own ones are added by name."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from raysweep.registry import Registry
from raysweep.run_folder import SearchFolder
from raysweep.search.results import Results
from raysweep.storage_faults import say
from raysweep.study import Study
from raysweep.trial_result import TrialResult


class Observer:
    """Follows a search. Each method is called in the driver's own thread, which waits until it returns."""

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Takes note of a trial that was sent to the cluster; `config` is its whole configuration as JSON."""

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Takes note of an epoch's metrics."""

    def trial_ended(self, result: TrialResult) -> None:
        """Takes note of a trial that completed, was stopped early or failed."""

    def time_passed(self) -> None:
        """Takes note that time has passed; called about once a second while trials run."""

    def search_ended(self, results: Results) -> None:
        """Takes note of the end: all trials and the figures of the test evaluation; not of finalists apart."""


ObserverFactory = Callable[[SearchFolder, Study], Observer]
"""A class or function that is called with the folder of the trials and their study, once for the search and, where
finalists are trained again, once for these: their numbers are of their own."""

OBSERVERS = Registry("raysweep.observers", "observer", {})
"""Observers of other packages. The live table, retention and Weights & Biases are none of them: each search has these,
and they are built from more than a folder and a study."""


def load_observers(names: Iterable[str]) -> dict[str, ObserverFactory]:
    """Imports the observers of these names.

    Raises:
        UsageError: there is none of a name, or its module cannot be imported.
    """
    return {name: OBSERVERS.load(name) for name in names}


def build_observers(factories: Mapping[str, ObserverFactory], folder: SearchFolder, study: Study) -> list[Observer]:
    """Builds observers that end no search, however they fail."""
    return [GuardedObserver(name, partial(factory, folder, study)) for name, factory in factories.items()]


class GuardedObserver(Observer):
    """Passes events on to an observer and says its first error on stderr: somebody else's error ends no study."""

    def __init__(self, name: str, build: Callable[[], Observer]) -> None:
        self._name = name
        self._has_failed = False
        self._observer = Observer()
        self._call("its construction", lambda: setattr(self, "_observer", build()))

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Passes it on."""
        self._call("trial_started", lambda: self._observer.trial_started(number, config, params))

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Passes it on."""
        self._call("epoch_ended", lambda: self._observer.epoch_ended(number, metrics))

    def trial_ended(self, result: TrialResult) -> None:
        """Passes it on."""
        self._call("trial_ended", lambda: self._observer.trial_ended(result))

    def time_passed(self) -> None:
        """Passes it on."""
        self._call("time_passed", lambda: self._observer.time_passed())

    def search_ended(self, results: Results) -> None:
        """Passes it on."""
        self._call("search_ended", lambda: self._observer.search_ended(results))

    def _call(self, place: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # of any kind: it is not ours
            if not self._has_failed:
                say(
                    f"observer {self._name} failed in {place}: {type(error).__name__}: {error}; the search goes on, "
                    "and further errors of it are not shown"
                )
            self._has_failed = True
