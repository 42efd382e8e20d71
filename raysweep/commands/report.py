"""`report`: the page that tells all of a run, rebuilt from what is stored."""

from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, optuna_storage_option, trust_code_option
from raysweep.run_folder import RunFolder


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@optuna_storage_option
@trust_code_option
def report(run: Path, storage_url: str | None, trust_code: bool) -> None:
    """Write the report.html of a RUN's folder again, also while the run goes on. Nothing is computed on images."""
    folder = RunFolder(run.expanduser().resolve())
    if trust_code:
        from raysweep.evaluate.stored_model import import_code  # slow: imports torch

        import_code(folder)
    from raysweep.report.page import write_report

    click.echo(write_report(folder, storage_url))
