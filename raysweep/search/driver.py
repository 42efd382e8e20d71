"""Keeps the books of a search: what the strategy proposes, what trials report, how they end; knows no Ray Tune."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from raysweep.cluster.lost_nodes import NodeWatch
from raysweep.errors import StorageError
from raysweep.search.attempt import Attempt
from raysweep.search.control import Control
from raysweep.search.disk_watch import DiskWatch
from raysweep.search.observer import Observer
from raysweep.search.session.storage import guard_optuna
from raysweep.search.strategy.strategy import MAX_RETRIES, Strategy
from raysweep.storage_faults import guard_work, say
from raysweep.train.report import EpochReport, Order, TrialFailure, TrialReport, leave_order
from raysweep.train.trial import TrialSpec
from raysweep.trial_result import Params, TrialResult

PERIOD_S = 1.0
"""How often commands are looked for, and observers told that time has passed."""
STOPPED = "stopped by the command `control`"


class SearchDriver:
    """Keeps the books between the strategy, Ray Tune's trials and the observers.

    Where the storage is at fault, no trial is told to have failed: it stays under way in the Optuna study, as when a
    driver is killed, and `fault` is what ends the search once no trial runs any more.
    """

    def __init__(
        self,
        strategy: Strategy,
        make_spec: Callable[[int, Params, int], TrialSpec],
        observers: Sequence[Observer],
        deadline: float | None,
        watch: NodeWatch,
        disk: DiskWatch,
        control: Control | None = None,
    ) -> None:
        """control: says what to do otherwise while trials run; none: nobody does."""
        self.strategy = strategy
        self.make_spec = make_spec
        self.observers = observers
        self.deadline = deadline
        self.watch = watch
        self.disk = disk
        self.control = control
        self.fault: StorageError | None = None
        self.is_paused = False
        """Whether nothing starts until somebody says so."""
        self.is_ending = False
        """Whether no trial starts any more, and those that run end with their epoch, to go on later."""
        self._has_said_end = False
        self._to_stop: set[int] = set()
        """Numbers of trials that somebody wants to end."""
        self._attempts: dict[str, Attempt] = {}
        self._began: dict[int, float] = {}
        """By the monotonic clock, as if a trial's sessions had followed one another."""
        self._last: dict[int, EpochReport] = {}
        self._next_look = 0.0

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Pickles an empty object: Ray Tune pickles its searcher for a restore of its own, which is never used."""
        return object, ()

    @property
    def is_idle(self) -> bool:
        """Tells whether no trial is under way that might have to be tried again."""
        return not self._attempts

    @property
    def is_waiting(self) -> bool:
        """Tells whether a trial is to start as soon as the disk has room for it, or the search is paused.

        Paused, it waits though no trial is left: what follows trials, such as the final evaluation, is not to start.
        """
        if self.fault is not None or self.is_ending:
            return False
        return self.is_paused or (self.disk.lack is not None and self.strategy.has_work(only_resumed=self.is_late()))

    def is_late(self) -> bool:
        """Tells whether the time budget is used up."""
        return self.strategy.is_late(self.deadline)

    def start(self, trial_id: str) -> TrialSpec | None:
        """Starts the next trial; none when there is none to start, or no storage for it."""
        self.look_at_disk()
        with self._guard():
            if self.fault is None and not self.is_ending and not self.is_waiting:
                return self._start(trial_id)
            self.disk.tell()
        return None

    def _start(self, trial_id: str) -> TrialSpec | None:
        proposal = self.strategy.propose(only_resumed=self.is_late())
        if proposal is None:
            return None
        number, params = proposal
        spec = self.make_spec(number, params, self.strategy.num_reported(number))
        self._attempts[trial_id] = Attempt(number=number, params=params, spec=spec, nodes=self.watch.list_living())
        if number not in self._began:
            self._began[number] = time.monotonic() - self.strategy.duration_s(number)
            for observer in self.observers:
                observer.trial_started(number, spec.config.to_json(), params)
        return spec

    def list_running(self) -> list[int]:
        """Lists the numbers of the trials that are under way."""
        return [attempt.number for attempt in self._attempts.values() if attempt.result is None]

    def stop_trial(self, number: int) -> None:
        """Stops a trial with its epoch, as the strategy stops a weak one."""
        self._to_stop.add(number)

    def end_softly(self) -> None:
        """Ends the search once the trials that run have ended with their epoch; called on a signal, too."""
        self.is_ending = True

    def look(self) -> None:
        """Looks at the disk and, about once a second, for commands; observers are told that time has passed."""
        self.look_at_disk()
        if self.is_ending and not self._has_said_end:
            self._has_said_end = True
            say(
                f"no trial starts any more; {len(self._attempts)} running end with their epoch, at a checkpoint, to go "
                "on later; Ctrl-C again ends at once"
            )
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + PERIOD_S
            if self.control is not None:
                with self._guard():
                    self.control.look(self)
            for observer in self.observers:
                observer.time_passed()

    def look_at_disk(self) -> None:
        """Looks whether the disk has room for the trials that run, and waits for it no longer than is patient."""
        with self._guard():
            if self.fault is None:
                self.disk.look([attempt.spec.folder for attempt in self._attempts.values()])
            if self.is_idle and self.is_waiting:
                self.disk.check_patience()

    @contextlib.contextmanager
    def _guard(self, attempt: Attempt | None = None) -> Iterator[None]:
        """Takes note of a storage that does not take or give what the books need, and leaves the attempt as it is."""
        try:
            with guard_optuna(), guard_work(self.disk.folder):
                yield
        except StorageError as fault:
            self._take_fault(fault, attempt)

    def _take_fault(self, fault: StorageError, attempt: Attempt | None) -> None:
        if attempt is not None:
            attempt.is_left = True
            with contextlib.suppress(OSError):
                attempt.spec.folder.stop_file.touch()
        if self.fault is None:
            full = self.disk.lack if self.disk.is_full else None  # says how much is needed in all
            self.fault = StorageError(full) if full else fault
            cause = "" if full else f"{fault}; "  # the disk has said it
            say(f"{cause}no trial starts any more, those that run go on as far as they can")

    def on_report(self, trial_id: str, report: TrialReport) -> bool:
        """Takes a report; returns whether Ray Tune is to stop the trial now.

        A weak trial ends by itself, on a word in its folder, once it has written what it has in memory only. A DDP
        trial always does: to stop it from outside would leave its workers and their placement group behind.
        """
        attempt = self._attempts.get(trial_id)
        if attempt is None or attempt.result is not None or attempt.is_left:
            return False
        if isinstance(report, TrialFailure):
            self._on_failure(attempt, report)
            return not (report.died and attempt.spec.request.num_workers == 1)  # such a process ends by itself
        if attempt.is_weak:  # the report was under way
            return False
        is_over = True
        with self._guard(attempt):
            is_over = self._on_epoch(attempt, report)
        return is_over and attempt.spec.request.num_workers == 1

    def _on_failure(self, attempt: Attempt, failure: TrialFailure) -> None:
        if failure.of_storage:
            self._take_fault(StorageError(failure.error), attempt)
        elif failure.died:
            attempt.death = failure.error
        else:
            with self._guard(attempt):
                self._end(attempt, "FAIL", failure.error)

    def _on_epoch(self, attempt: Attempt, report: EpochReport) -> bool:
        """Takes the report of an epoch; returns whether the trial is finished."""
        if report.notice is not None:
            say(f"trial {attempt.number}: {report.notice}")
        self._last[attempt.number] = report
        epoch = int(report.metrics["epoch"])
        is_new = epoch > self.strategy.num_reported(attempt.number)
        stop = self.strategy.report(attempt.number, epoch, report.value) or attempt.number in self._to_stop
        for observer in self.observers if is_new else ():
            observer.epoch_ended(attempt.number, report.metrics)
        if report.finished:
            self._end(attempt, "COMPLETE", report.cause)
        elif stop:
            leave_order(attempt.spec.folder, Order.END)
            attempt.is_weak = True
        elif self.is_ending:
            leave_order(attempt.spec.folder, Order.PAUSE)
            attempt.is_left = True
        return report.finished

    def on_death(self, trial_id: str, error: str) -> None:
        """Takes note that a trial's process died, and of Ray's words for it where it had no own."""
        attempt = self._attempts[trial_id]
        attempt.death = attempt.death or error

    def on_end(self, trial_id: str) -> None:
        """Ends a trial that Ray Tune is done with, or tries it again: nothing writes to its folder any more.

        Where the storage is at fault, a process may have died of that.
        """
        attempt = self._attempts.pop(trial_id)
        with self._guard(attempt):
            if attempt.result is None and self.fault is None and not attempt.is_left:
                if attempt.is_weak and attempt.death is None:
                    self._end(attempt, "PRUNED", STOPPED if attempt.number in self._to_stop else None)
                else:
                    self._on_death(attempt)
            if attempt.result is not None:
                for observer in self.observers:
                    observer.trial_ended(attempt.result)
            elif attempt.is_left and self.fault is None:
                self.strategy.leave(attempt.number, time.monotonic() - self._began[attempt.number])

    def _on_death(self, attempt: Attempt) -> None:
        """Tries a trial again whose process died without a last word, or ends it where that is often."""
        lost = self.watch.find_lost(attempt.nodes)
        death = attempt.death or "the trial's process ended without a report"
        if self.strategy.retry(attempt.number, node_lost=bool(lost)):
            cause = f"node {', '.join(lost)} was lost" if lost else f"its process died ({death})"
            say(f"trial {attempt.number}: {cause}; it goes on from its last checkpoint")
        else:
            self._end(attempt, "FAIL", f"its process died {MAX_RETRIES + 1} times, at last: {death}")

    def _end(self, attempt: Attempt, state: Literal["COMPLETE", "PRUNED", "FAIL"], error: str | None = None) -> None:
        last = self._last.get(attempt.number)
        result = TrialResult(
            number=attempt.number,
            state=state,
            value=last.best_value if last else None,
            best_epoch=last.best_epoch if last else None,
            second_value=last.second_value if last else None,
            params=attempt.params,
            duration_s=time.monotonic() - self._began[attempt.number],
            error=error,
        )
        self.strategy.tell(result)
        attempt.result = result
        self._last.pop(attempt.number, None)
