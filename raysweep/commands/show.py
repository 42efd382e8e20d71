"""`show`: a run, or one of its trials."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, json_option, optuna_storage_option
from raysweep.errors import escape_controls
from raysweep.run_folder import RunFolder


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.argument("trial", type=click.IntRange(min=0), required=False)
@json_option
@optuna_storage_option
def show(run: Path, trial: int | None, as_json: bool, storage_url: str | None) -> None:
    """Show a RUN's folder, also while it runs: a line for each trial; or the TRIAL of that number.

    Of a trial it says why it was proposed, what the model expected of it, where it stood against the others when it was
    stopped, what it cost and why it failed.
    """
    from raysweep.report.run_view import load_view  # slow: imports Optuna
    from raysweep.runs import run_account, trial_account

    view = load_view(RunFolder(run.expanduser().resolve()), storage_url=storage_url)
    if trial is not None:
        account = trial_account.give_account(view, trial)
        text = trial_account.describe_account(account)
        click.echo(json.dumps(account.to_json(), indent=2) if as_json else escape_controls(text))
    elif as_json:
        click.echo(json.dumps(run_account.run_to_json(view), indent=2))
    else:
        click.echo(escape_controls(run_account.describe_account(view, datetime.now(UTC))))
