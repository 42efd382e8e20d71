"""The command line: its commands, loaded one at a time, and how errors become exit codes."""

import sys

import click

import raysweep
from raysweep.commands import COMMANDS
from raysweep.commands.options import CONTEXT
from raysweep.errors import RaysweepError, UsageError, shorten

INSTALL = "run `make install`, and then the commands of its environment, as .venv/bin/raysweep"
"""Says what to do where a requirement is missing."""
MAX_LINE = 4000


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
    """Runs a command; exits with 1 where the work failed, 2 on wrong usage or config, 130 where it was interrupted.

    prog_name: stands for the command in its usage.
    """
    try:
        command.main(args=args, prog_name=prog_name, standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RaysweepError as error:
        click.echo(f"error: {make_printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "raysweep":
            raise  # a defect of ours, not a missing install
        click.echo(f"error: {sys.executable} has no module {error.name!r}, which raysweep needs: {INSTALL}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what is done is stored in the run's folder: go on with --resume", err=True)
        sys.exit(130)


def make_printable(text: str) -> str:
    """Makes a message one to show: no control characters, which names of files may have, and no endless line."""
    lines = (shorten(line, MAX_LINE) for line in text.split("\n"))
    return "\n".join(
        "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape", "replace").decode() for c in line)
        for line in lines
    )
