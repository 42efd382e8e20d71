"""`replay`: a trial of a run, trained again from its record."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from raysweep.commands.options import (
    CONTEXT,
    PathType,
    json_option,
    optuna_storage_option,
    trust_code_option,
    with_flags,
)
from raysweep.errors import escape_controls
from raysweep.run_folder import RunFolder
from raysweep.search.options import RunOptions


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.argument("trial", type=click.IntRange(min=0))
@with_flags(RunOptions, "address", "num_workers", "cpus_per_worker", "gpus_per_worker")
@json_option
@optuna_storage_option
@trust_code_option
def replay(run: Path, trial: int, as_json: bool, storage_url: str | None, trust_code: bool, **size: Any) -> None:
    """Train a TRIAL of a RUN again - same configuration, seed, images and epochs - and compare each epoch's metrics.

    Its files go to RUN/replays, its best weights among them; the run stays as it is. Exit code 0: it came out the same,
    up to rounding; 1: it did not.
    """
    from raysweep import config_fields
    from raysweep.report.run_view import load_view  # slow: imports Optuna
    from raysweep.search.start import find_data_root

    folder = RunFolder(run.expanduser().resolve())
    view = load_view(folder, storage_url=storage_url)
    options = RunOptions(storage=folder.storage, name=folder.path.name, data_root=find_data_root(), **size)
    from raysweep.runs.trial_account import find_trial

    find_trial(view, trial)
    if trust_code:
        from raysweep.evaluate.stored_model import import_code

        import_code(folder)
    from raysweep.runs.replay import describe_outcome, replay_trial  # slow: imports Ray

    outcome = replay_trial(view, trial, options)
    if as_json:
        click.echo(json.dumps({**config_fields.to_json(outcome), "is_same": outcome.is_same}, indent=2))
    else:
        click.echo(escape_controls(describe_outcome(outcome, run)))
    if not outcome.is_same:
        sys.exit(1)
