"""Runs the chaos test: the search alone, then with each fault, then compares."""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysweep import config_fields
from raysweep.catalogue import load_study
from raysweep.chaos.check import compare_runs, count_epochs
from raysweep.chaos.faults import FAULTS, Fault
from raysweep.chaos.places import NotPossibleError, open_setting
from raysweep.chaos.study import write_study_file
from raysweep.chaos.victim import LOCAL, ChaosError, Setting, Victim
from raysweep.cluster.connection import connect
from raysweep.data.drawing.pictures import draw_sample
from raysweep.errors import RaysweepError, UsageError
from raysweep.run_folder import RunFolder

IMAGES_PER_CLASS = 15
BAD_SIGNS = ("Traceback (most recent call last)", "*** SIG", "Fatal Python error")
"""What no user is to be shown, whatever happens to a search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Says what a chaos test disturbs, where and how."""

    storage: Path
    study: str | None = None
    """A study's name or path; none: the built-in sample with a tiny network."""
    data: str | None = None
    address: str = LOCAL
    faults: tuple[str, ...] = ()
    """Empty: all that are harmless to others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Says how a search has answered a fault."""

    fault: str
    done: str
    answer: str = ""
    books: str = ""
    problems: tuple[str, ...] = ()
    possible: bool = True

    @property
    def verdict(self) -> str:
        """Returns the word for it."""
        if not self.possible:
            return "not possible here"
        return "FAILED" if self.problems else "passed"


def choose_faults(text: str | None) -> tuple[str, ...]:
    """Parses the names of faults in `driver,disk`.

    Raises:
        UsageError: there is no such fault.
    """
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    for name in names:
        if name not in FAULTS:
            raise UsageError(config_fields.unknown_name("fault", name, FAULTS))
    return names


def run_chaos(question: Question) -> tuple[Path, Iterator[Outcome]]:
    """Prepares a chaos test; returns its folder and an iterator that runs it, fault by fault.

    Raises:
        UsageError: there is no such study, nothing answers at the address, or the storage cannot be written to.
    """
    if question.study is not None:
        load_study(question.study)
    if question.address != LOCAL:
        connect(question.address)
    folder = question.storage / time.strftime("chaos-%Y%m%d-%H%M%S")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"--storage must be a folder that can be written to, got {question.storage}: {error}"
        ) from None
    return folder, _run_faults(question, _prepare(question, folder))


def _prepare(question: Question, folder: Path) -> Setting:
    """Writes what all searches of the test share."""
    setting = Setting(
        study_file=folder / "study.py",
        storage=folder,
        logs=folder / "logs",
        data=question.data,
        address=question.address,
        is_shared=question.address != LOCAL,
    )
    setting.logs.mkdir()
    setting.study_file.write_text(write_study_file(question.study))
    if question.study is None and question.data is None:
        pictures = folder / "pictures"
        draw_sample(pictures, images_per_class=IMAGES_PER_CLASS)
        setting = dataclasses.replace(setting, data=str(pictures))
    return setting


def _run_faults(question: Question, setting: Setting) -> Iterator[Outcome]:
    alone: dict[int, RunFolder] = {}
    for name in question.faults or FAULTS:
        fault = FAULTS[name]
        try:
            if fault.num_workers not in alone:
                alone[fault.num_workers] = _run_alone(setting, fault.num_workers)
            with open_setting(fault, setting, alone[fault.num_workers], is_named=name in question.faults) as own:
                yield _run_fault(fault, own, alone[fault.num_workers])
        except NotPossibleError as error:
            yield Outcome(fault=name, done=str(error), possible=False)


def _run_alone(setting: Setting, num_workers: int) -> RunFolder:
    """Runs the search without a fault.

    Raises:
        NotPossibleError: no trial of so many workers fits.
        UsageError: the search cannot be had: its data are missing, for one.
        ChaosError: it fails.
    """
    name = "alone" if num_workers == 1 else f"alone-{num_workers}-workers"
    print(f"{name}: the search without a fault", file=sys.stderr)
    victim = Victim(dataclasses.replace(setting, num_workers=num_workers), name)
    try:
        victim.start()
        if (code := victim.wait()) != 0:
            refused = UsageError if num_workers == 1 else NotPossibleError
            raise (refused if code == UsageError.exit_code else ChaosError)(
                f"the search fails without a fault: exit code {code}, {victim.last_line()}; see {victim.log}"
            )
    finally:
        victim.clear()
    return victim.folder


def _run_fault(fault: Fault, setting: Setting, alone: RunFolder) -> Outcome:
    """Runs the search with one fault, and again where that ends it, and compares it with the one left alone."""
    print(f"{fault.name}: the search with this fault", file=sys.stderr)
    victim = Victim(setting, fault.name)
    outcome = Outcome(fault=fault.name, done="")
    try:
        victim.start()
        outcome = dataclasses.replace(outcome, done=fault.strike(victim))
        answers, problems = _finish(fault, victim)
        outcome = dataclasses.replace(outcome, answer="\nresumed: ".join(answers), problems=tuple(problems))
        if victim.wait() != 0:
            return outcome
        trials, epochs = count_epochs(victim.folder)
        problems += [*compare_runs(victim.folder, alone), *(f"{name} is left" for name in victim.list_left())]
        return dataclasses.replace(outcome, books=f"{trials} trials, {epochs} epochs", problems=tuple(problems))
    except (RaysweepError, OSError, ValueError) as error:  # a file of the run that cannot be read back, for one
        return dataclasses.replace(outcome, problems=(*outcome.problems, f"{type(error).__name__}: {error}"))
    finally:
        victim.clear()


def _finish(fault: Fault, victim: Victim) -> tuple[list[str], list[str]]:
    """Waits for the end of the session that was struck, and resumes it where that was not the end of the search.

    Returns the answers and the problems.
    """
    answers: list[str] = []
    problems: list[str] = []

    def wait(exit_codes: Sequence[int]) -> int:
        code = victim.wait()
        answers.append(": ".join(filter(None, [f"exit {code} after {victim.lasted_s:.0f} s", victim.last_line()])))
        if code not in exit_codes:
            problems.append(f"exit code {code} in place of {' or '.join(map(str, exit_codes))}; see {victim.log}")
        problems.extend(f"{sign!r} in {victim.log}" for sign in BAD_SIGNS if sign in victim.read_log())
        return code

    if wait(fault.exit_codes) != 0:
        victim.start()
        wait((0,))
    return answers, problems


def describe(outcomes: Sequence[Outcome]) -> str:
    """Counts the verdicts."""
    verdicts = [outcome.verdict for outcome in outcomes]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
