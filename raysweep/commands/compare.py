"""`compare`: runs side by side on the same test images."""

import json
from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, json_option, trust_code_option
from raysweep.errors import escape_controls
from raysweep.run_folder import RunFolder


@click.command(context_settings=CONTEXT)
@click.argument("runs", metavar="RUN RUN...", type=PathType(), nargs=-1, required=True)
@click.option(
    "--figure",
    type=PathType(),
    metavar="PATH",
    default="comparison.png",
    show_default=True,
    help="PNG file to draw the comparison to.",
)
@json_option
@trust_code_option
def compare(runs: tuple[Path, ...], figure: Path, as_json: bool, trust_code: bool) -> None:
    """Compare finished RUNs with the first one: test figures with intervals, image by image where these are known.

    Refused where the runs' images, task or objective are not the same. No image is read, and no test split opened.
    """
    from raysweep.report.run_view import load_view  # slow: imports Optuna
    from raysweep.runs.comparison import compare_runs

    folders = [RunFolder(run.expanduser().resolve()) for run in runs]
    if trust_code:
        from raysweep.evaluate.stored_model import import_code

        for folder in folders:
            import_code(folder)
    comparison = compare_runs([load_view(folder, with_histories=False) for folder in folders])
    from raysweep.runs.comparison_figure import save_comparison
    from raysweep.runs.comparison_text import describe_comparison

    place = figure.expanduser().resolve()
    save_comparison(place, comparison)
    if as_json:
        click.echo(json.dumps({**comparison.to_json(), "figure": str(place)}, indent=2))
    else:
        click.echo(escape_controls(f"{describe_comparison(comparison)}\n\nfigure: {place}"))
