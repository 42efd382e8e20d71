"""`data`: what is in a folder of images, before anything is trained on them."""

from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, with_flags
from raysweep.search.options import RunOptions


@click.command(context_settings=CONTEXT)
@click.argument("folder")
@click.option(
    "--sheet", type=PathType(), default="contact_sheet.png", show_default=True, help="Where some images are drawn, PNG."
)
@with_flags(RunOptions, "storage", storage="Below it downloads and drawn images are kept.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def data(folder: str, sheet: Path, storage: Path, as_json: bool) -> None:
    """Show what is in FOLDER, or any source that `--data` takes: counts, sizes, formats, duplicates, what is left out.

    Some training images are drawn, a row for each class.
    """
    from raysweep.data.description import describe_json, describe_survey, save_contact_sheet
    from raysweep.data.sources import load_source, resolve_source
    from raysweep.data.survey import survey
    from raysweep.errors import escape_controls
    from raysweep.search.start import find_data_root

    source = load_source(
        resolve_source(folder), split_seed=0, storage=storage.expanduser().resolve(), data_root=find_data_root()
    )
    seen = survey(source)
    if not as_json:
        click.echo(escape_controls(describe_survey(source, seen)))
    drawn = save_contact_sheet(sheet, source)
    if as_json:
        click.echo(describe_json(source, seen, drawn))
    click.echo(f"contact sheet: {sheet}; --json names its images", err=True)
