"""Carries commands to a running search and answers back, as small files in the run's folder: there is no server."""

import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from raysweep import atomic_files, config_fields, file_guard
from raysweep.errors import RaysweepError, StorageError, UsageError
from raysweep.run_folder import RunFolder
from raysweep.search.status import look_at_run

STAGES = ("search", "finalists")
"""Stages of a run in which trials train, and commands are taken."""
PATIENCE_S = 60.0
"""How long an answer is waited for: the driver looks about once a second, but may be busy with a proposal."""
PAUSE_S = 0.1
WHAT = "a command to a running search"
AGAIN = "send it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Says what a running search is to do."""

    verb: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Says what became of a command."""

    text: str
    is_refused: bool = False


class CommandError(RaysweepError):
    """A command that a running search has not answered."""


def send_command(folder: RunFolder, command: Command, patience_s: float = PATIENCE_S) -> str:
    """Sends a command to the search that runs in a folder, from any host that sees it, and returns the answer.

    Raises:
        UsageError: no search runs there, or it refuses the command.
        CommandError: it does not answer.
        StorageError: the folder does not take the command.
    """
    _check_running(folder)
    atomic_files.make_folder(folder.commands)
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    atomic_files.write_json(folder.command(name), config_fields.to_json(command), checksum=True)
    until = time.monotonic() + patience_s
    while not folder.answer(name).is_file():
        if time.monotonic() > until or look_at_run(folder).stage not in STAGES:
            atomic_files.remove(folder.command(name))
            if folder.answer(name).is_file():
                break
            raise CommandError(
                f"the search in {folder.path} has ended, or has not looked for {patience_s:.0f} s; see `status`, and "
                f"{AGAIN}"
            )
        time.sleep(PAUSE_S)
    answer = file_guard.read_json(
        folder.answer(name), "the answer to a command", AGAIN, lambda values: config_fields.from_json(Answer, values)
    )
    atomic_files.remove(folder.answer(name))
    if answer.is_refused:
        raise UsageError(answer.text)
    return answer.text


def _check_running(folder: RunFolder) -> None:
    """Refuses a run that takes no commands.

    Raises:
        UsageError: it is one.
    """
    seen = look_at_run(folder)
    if seen.holder is None:
        raise UsageError(f"a search must run in {folder.path} to be told something, but the run is {seen.state}")
    if seen.stage not in STAGES:
        raise UsageError(
            f"a run takes commands while it searches or trains finalists again, and {folder.path} is at its "
            f"{seen.stage or 'preparation, or another command works in it'}"
        )


class CommandBox:
    """Hands the commands in a run's folder to its driver. What the storage does not give or take is passed over."""

    def __init__(self, folder: RunFolder) -> None:
        """Removes what was left of an earlier session."""
        self.folder = folder
        shutil.rmtree(folder.commands, ignore_errors=True)

    def take(self) -> Iterator[tuple[str, Command]]:
        """Takes the commands that have come, by their names; a damaged one is refused."""
        for name in self.folder.list_commands():
            try:
                path = self.folder.command(name)
                command = file_guard.read_json(path, WHAT, AGAIN, lambda row: config_fields.from_json(Command, row))
                atomic_files.remove(path)
            except StorageError:
                continue
            except RaysweepError as error:
                self.answer(name, Answer(text=str(error), is_refused=True))
                continue
            yield name, command

    def answer(self, name: str, answer: Answer) -> None:
        """Leaves an answer for who has sent the command."""
        try:
            atomic_files.remove(self.folder.command(name))
            atomic_files.write_json(self.folder.answer(name), config_fields.to_json(answer), checksum=True, sync=False)
        except StorageError:
            return
