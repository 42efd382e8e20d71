"""Obeys what is said to a running search: stop a trial, add a point, another number of trials, pause, resume, stop."""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raysweep import config_fields
from raysweep.config import Budget, check_config
from raysweep.errors import RaysweepError, UsageError, escape_controls, first_line, shorten
from raysweep.search.control_files import Answer, Command, CommandBox
from raysweep.search.progress import SearchProgress
from raysweep.storage_faults import say
from raysweep.study import Study
from raysweep.trial_result import BASELINE, Params

if TYPE_CHECKING:
    from raysweep.search.driver import SearchDriver

LATE = "; but the time budget is used up: no further trial starts before a `tune ... --resume` with a longer one"


class Control:
    """Takes commands from a run's folder and has its driver obey."""

    def __init__(
        self, box: CommandBox, progress: SearchProgress, save_num_trials: Callable[[int], None] | None = None
    ) -> None:
        """save_num_trials: keeps the number of trials for `--resume`; none: the trials are a fixed set."""
        self.box = box
        self.progress = progress
        self.save_num_trials = save_num_trials

    def look(self, driver: "SearchDriver") -> None:
        """Obeys the commands that have come since the last look."""
        for name, command in self.box.take():
            answer = self.obey(driver, command)
            say(escape_controls(f"control {' '.join((command.verb, *command.arguments))}: {answer.text}"))
            self.box.answer(name, answer)

    def close(self) -> None:
        """Refuses what has come too late."""
        with contextlib.suppress(OSError):
            for name, _ in self.box.take():
                self.box.answer(name, Answer(text="the search has ended", is_refused=True))

    def obey(self, driver: "SearchDriver", command: Command) -> Answer:
        """Obeys a command, or says why not."""
        acts = {
            "stop-trial": self._stop_trial,
            "add-point": self._add_point,
            "trials": self._set_num_trials,
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._stop,
        }
        try:
            if command.verb not in acts:
                raise UsageError(config_fields.unknown_name("command", command.verb, acts))
            return Answer(text=acts[command.verb](driver, command.arguments))
        except RaysweepError as error:
            return Answer(text=str(error), is_refused=True)
        except Exception as error:  # whatever somebody says, the search goes on
            return Answer(text=f"it failed: {type(error).__name__}: {first_line(error)}", is_refused=True)

    def _stop_trial(self, driver: "SearchDriver", arguments: Sequence[str]) -> str:
        number = parse_number(arguments)
        self._check_open("stop-trial")
        running = sorted(driver.list_running())
        if number not in running:
            raise UsageError(f"no trial {number} runs; running: {', '.join(map(str, running)) or 'none'}")
        if number == BASELINE:
            raise UsageError("trial 0 is the baseline, over which the lift is stated: it is never stopped")
        driver.stop_trial(number)
        return f"trial {number} ends with its epoch, as one that was stopped early"

    def _add_point(self, driver: "SearchDriver", arguments: Sequence[str]) -> str:
        self._check_open("add-point")
        strategy = driver.strategy
        number = strategy.enqueue(parse_point(strategy.study, arguments))
        if strategy.has_budget():
            text = f"the baseline with {', '.join(arguments)} is tried as trial {number}, as soon as one may start"
            return text + LATE * driver.is_late()
        begun = strategy.count_begun()
        return (
            f"the baseline with {', '.join(arguments)} waits as trial {number}: no further trial is to start; `trials "
            f"{begun + 1}` gives it room where {begun} are all{LATE * driver.is_late()}"
        )

    def _set_num_trials(self, driver: "SearchDriver", arguments: Sequence[str]) -> str:
        number = parse_number(arguments)
        self._check_open("trials")
        assert self.save_num_trials is not None
        check_config(lambda: Budget(trials=number), "trials")
        begun = driver.strategy.count_begun()
        if number < begun:
            raise UsageError(
                f"the number of trials must be at least {begun}, as many have begun, got {number}; `stop` ends the "
                "search, `stop-trial N` a trial"
            )
        self.save_num_trials(number)
        driver.strategy.set_num_trials(number)
        self.progress.num_trials = number
        text = f"the search has {number} trials in all, of which {begun} have begun"
        return text + LATE * (driver.is_late() and number > begun)

    def _pause(self, driver: "SearchDriver", arguments: Sequence[str]) -> str:
        self._set_paused(driver, True)
        return f"nothing starts until `resume`; {len(driver.list_running())} running go on"

    def _resume(self, driver: "SearchDriver", arguments: Sequence[str]) -> str:
        if not driver.is_paused:
            raise UsageError("the search is not paused")
        self._set_paused(driver, False)
        return "trials start again" + LATE * driver.is_late()

    def _set_paused(self, driver: "SearchDriver", is_paused: bool) -> None:
        driver.is_paused = self.progress.is_paused = is_paused

    def _stop(self, driver: "SearchDriver", arguments: Sequence[str]) -> str:
        driver.end_softly()
        return f"the trials that run, {len(driver.list_running())}, end with their epoch; `tune ... --resume` goes on"

    def _check_open(self, verb: str) -> None:
        if self.save_num_trials is None:
            raise UsageError(f"{verb} is for the search: the trainings of finalists are a fixed set")


def parse_number(arguments: Sequence[str]) -> int:
    """Parses the only argument of a command as a number.

    Raises:
        UsageError: it is none.
    """
    (text, *rest) = (*arguments, "")
    if rest != [""] or not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"a number must follow, got {shorten(' '.join(arguments)) or 'nothing'}")
    return int(text)


def parse_point(study: Study, settings: Sequence[str]) -> Params:
    """Returns the baseline with the values of KEY=VALUE settings, as a point of the study's space.

    Raises:
        UsageError: a setting is no KEY=VALUE, or the point is not in the space.
    """
    keys = {key for key, _ in study.all_distributions()}
    values: Params = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"add-point takes KEY=VALUE, got {shorten(repr(setting))}")
        if key not in keys:
            raise UsageError(config_fields.unknown_name("key of the search space", key, keys))
        values[key] = config_fields.parse_field(study, key, text)
    if not values:
        raise UsageError(f"add-point takes KEY=VALUE, got nothing; keys: {', '.join(sorted(keys))}")
    point: Params = check_config(lambda: study.build_point("the point", values), "add-point")
    check_config(lambda: study.trial_config(point, BASELINE), "add-point")
    return point
