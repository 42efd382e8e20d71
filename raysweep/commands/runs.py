"""`runs`: the runs in a storage."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, json_option
from raysweep.errors import escape_controls


@click.command(context_settings=CONTEXT)
@click.argument("storage", type=PathType(), default="results")
@json_option
def runs(storage: Path, as_json: bool) -> None:
    """List the runs in a STORAGE (default: results): state, best value, lift on the test images, age and size.

    running: a command works on it; finished; interrupted: `tune --resume` goes on with it; failed: no trial completed;
    damaged: a file of it cannot be read.
    """
    from raysweep.runs.listing import describe_runs, list_runs  # slow: imports Optuna

    found = list_runs(storage.expanduser().resolve())
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in found], indent=2))
    elif found:
        click.echo(escape_controls(describe_runs(found, datetime.now(UTC))))
    else:
        click.echo(f"no run in {storage}", err=True)
