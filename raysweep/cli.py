"""The command line: its commands, and how errors become exit codes."""

import sys

import click

from raysweep.commands.doctor import doctor
from raysweep.commands.options import CONTEXT
from raysweep.commands.plan import plan
from raysweep.commands.runs import evaluate, predict, studies
from raysweep.commands.tune import tune
from raysweep.errors import RaysweepError


@click.group(context_settings=CONTEXT, commands=[tune, plan, evaluate, predict, studies, doctor])
@click.version_option(package_name="raysweep")
def cli() -> None:
    """Hyperparameter search for image models on a Ray cluster."""


def main(args: list[str] | None = None) -> None:
    """The console script: exit code 0 done, 1 the work failed, 2 wrong usage or config, 130 interrupted."""
    args = sys.argv[1:] if args is None else args
    command: click.Command = cli
    prog_name = "raysweep"
    if getattr(sys.modules["__main__"], "__package__", None) == "platform":  # the door: its module names the verb
        command, prog_name, args = cli.commands[args[0]], f"python -m platform.{args[0]}", args[1:]
    try:
        command.main(args=args, prog_name=prog_name, standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RaysweepError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what is done is stored in the run's folder: go on with --resume", err=True)
        sys.exit(130)
