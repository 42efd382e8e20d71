"""`evaluate`: the test evaluation of a finished run, once more."""

from pathlib import Path

import click

from raysweep import file_guard
from raysweep.commands.options import CONTEXT, PathType, optuna_storage_option, trust_code_option
from raysweep.run_folder import RunFolder


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@optuna_storage_option
@trust_code_option
def evaluate(run: Path, storage_url: str | None, trust_code: bool) -> None:
    """Repeat the test evaluation of a RUN's folder; it is recorded as a further opening of the test split."""
    from raysweep.search.reevaluate import reevaluate
    from raysweep.search.start import find_data_root

    run_folder = RunFolder(run.expanduser().resolve())
    if trust_code:
        from raysweep.evaluate.stored_model import import_code  # slow: imports torch

        import_code(run_folder)
    test = reevaluate(run_folder, find_data_root(), storage_url)
    click.echo(file_guard.read_text(run_folder.test / test.report, "the report of a run"), nl=False)
    click.echo(f"The test split of this run has been opened {test.openings} times.")
