"""`evaluate`: the test evaluation of a finished run, once more."""

from pathlib import Path

import click

from raysweep.commands.options import CONTEXT
from raysweep.run_folder import RunFolder


@click.command(context_settings=CONTEXT)
@click.argument("run", type=click.Path(path_type=Path))
def evaluate(run: Path) -> None:
    """Repeat the test evaluation of a RUN's folder; it is recorded as a further opening of the test split."""
    from raysweep.search.reevaluate import reevaluate
    from raysweep.search.start import find_data_root

    run_folder = RunFolder(run.resolve())
    test = reevaluate(run_folder, find_data_root())
    click.echo((run_folder.test / test.report).read_text(encoding="utf-8"), nl=False)
    click.echo(f"The test split of this run has been opened {test.openings} times.")
