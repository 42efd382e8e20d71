"""The command line: its commands, loaded one at a time, and how errors become exit codes."""

import contextlib
import os
import sys
import time
from functools import partial

import click

import raysweep
from raysweep import signals
from raysweep.commands import COMMANDS
from raysweep.commands.options import CONTEXT
from raysweep.errors import RayLostError, RaysweepError, UsageError, escape_controls, shorten

MAX_RESTARTS = 3
"""Times that a command begins again after its local Ray was lost."""
RESTARTS = "RAYSWEEP_RESTARTS"
"""Environment variable by which a command tells the one that replaces it how often that has happened."""
INSTALL = "run `make install`, and then the commands of its environment, as .venv/bin/raysweep"
"""Says what to do where a requirement is missing."""
MAX_LINE = 4000
"""Letters of a line of a message."""


class CommandGroup(click.Group):
    """The commands of the registry; a verb imports its own file only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Lists the built-in verbs, then those of installed packages."""
        return list(dict.fromkeys([*COMMANDS.built_in, *sorted(COMMANDS.references())]))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Loads a command; one that is known and cannot be loaded is shown, and ends, with the reason.

        Raises:
            UsageError: there is no such command.
        """
        try:
            return load_command(cmd_name)
        except UsageError as error:
            if cmd_name not in COMMANDS.references():
                raise
            return _stand_in(cmd_name, error)


def _stand_in(verb: str, error: UsageError) -> click.Command:
    def fail() -> None:
        raise error

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(verb, callback=fail, short_help=str(error), add_help_option=False, context_settings=anything)


def load_command(verb: str) -> click.Command:
    """Loads the command of a verb.

    Raises:
        UsageError: there is none, its module cannot be imported, or what it names is no command.
    """
    command = COMMANDS.load(verb)
    if not isinstance(command, click.Command):
        reference = COMMANDS.references().get(verb, verb)
        raise UsageError(f"a command must be a click.Command, got {type(command).__name__} from {reference}")
    return command


@click.command(cls=CommandGroup, context_settings=CONTEXT)
@click.version_option(raysweep.__version__)
def cli() -> None:
    """Hyperparameter search for image models on a Ray cluster."""


def main(args: list[str] | None = None) -> None:
    """Runs `raysweep` with `args`, by default those of this process."""
    run_command(cli, sys.argv[1:] if args is None else args, "raysweep")


def run_command(command: click.Command, args: list[str], prog_name: str) -> None:
    """Runs a command; exits with 1 where the work failed, 2 on wrong usage or config, 128 + the number of a signal.

    prog_name: stands for the command in its usage.
    """
    code = _run(command, args, prog_name)
    if lost_ray := sys.modules.get("raysweep.cluster.lost_ray"):  # else Ray was not started
        lost_ray.exit_without_ray(code)
    if signals.received() is not None:
        signals.ignore()
    if code:
        sys.exit(code)


def _run(command: click.Command, args: list[str], prog_name: str) -> int:
    """Runs a command; returns its exit code."""
    begin_again = partial(_begin_again, command, args)
    signals.set_restart(begin_again)
    try:
        with signals.handled():
            command.main(args=args, prog_name=prog_name, standalone_mode=False, obj=list(args))
    except click.exceptions.Exit as exit_request:
        code = exit_request.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except RaysweepError as error:
        if isinstance(error, RayLostError) and signals.received() is None:
            begin_again(error)
        _say(f"error: {error}")
        code = error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "raysweep":
            raise  # a defect of ours, not a missing install
        _say(f"error: {sys.executable} has no module {error.name!r}, which raysweep needs: {INSTALL}")
        code = 2
    except (KeyboardInterrupt, click.Abort) as error:
        _say(str(error) or "interrupted")
        code = signals.exit_code()
    except BaseException:
        time.sleep(signals.SAME_S)  # what follows signals may be a moment behind
        if signals.received() is None:
            raise
        _say("interrupted")  # by a library that makes another error of it, or by Ray's own handler
        code = signals.exit_code()
    else:
        return 0
    return code if signals.received() is None else signals.exit_code()


def _begin_again(command: click.Command, args: list[str], error: RayLostError) -> None:
    """Replaces this process by one that does what is left to do, after its Ray was lost; returns where it cannot."""
    count = int(os.environ.get(RESTARTS, "0"))
    if not error.is_local or count == MAX_RESTARTS or args != sys.argv[1:]:
        return
    if isinstance(command, click.Group):
        command = load_command(args[0])
    can_resume = any("--resume" in parameter.opts for parameter in command.params)
    more = ["--resume"] if can_resume and "--resume" not in args else []
    _say(f"{error.lost} of the local Ray has died: it is started again ({count + 1} of {MAX_RESTARTS})")
    os.environ[RESTARTS] = str(count + 1)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], *more])


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed
        click.echo(make_printable(message), err=True)


def make_printable(message: str) -> str:
    """Makes a message one to show: names of files in it command no terminal and make no line without end."""
    return "\n".join(shorten(line, MAX_LINE) for line in escape_controls(message).split("\n"))
