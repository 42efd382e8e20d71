"""`control`: tells a running search something."""

from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType
from raysweep.run_folder import RunFolder

VERBS = {
    "stop-trial": "N             ends trial N with its epoch, as one that was stopped early",
    "add-point": "KEY=VALUE...  tries the baseline with these values, as the next trial",
    "trials": "N             the search has N trials in all; kept for --resume",
    "pause": "              no trial starts; those that run go on",
    "resume": "              trials start again",
    "stop": "              ends the search: running trials end with their epoch, at a checkpoint; --resume goes on",
}
EPILOG = "\n".join(["\b", *(f"{verb:<10} {text}" for verb, text in VERBS.items())])


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("run", type=PathType())
@click.argument("command", type=click.Choice(list(VERBS)))
@click.argument("arguments", nargs=-1)
def control(run: Path, command: str, arguments: tuple[str, ...]) -> None:
    """Tell the search that runs in the folder RUN what to do. It obeys within an epoch, and answers.

    Files in the folder carry it, so that any machine will do that sees the folder.
    """
    from raysweep.errors import escape_controls
    from raysweep.search.control_files import Command, send_command

    folder = RunFolder(run.expanduser().resolve())
    click.echo(escape_controls(send_command(folder, Command(verb=command, arguments=arguments))))
