"""`status`: what a run does at the moment."""

import json
from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType
from raysweep.run_folder import RunFolder


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def status(run: Path, as_json: bool) -> None:
    """Say what the run in the folder RUN does at the moment, how far it is, and the best so far.

    Only files are read, so that any machine will do that sees the folder.
    """
    from raysweep import config_fields
    from raysweep.errors import escape_controls
    from raysweep.search.status import describe_status, look_at_run

    seen = look_at_run(RunFolder(run.expanduser().resolve()))
    text = escape_controls(describe_status(seen))
    click.echo(json.dumps(config_fields.to_json(seen), indent=2) if as_json else text)
