"""`clean`: what may be deleted, and how much that frees."""

import json
from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, json_option
from raysweep.errors import escape_controls


@click.command(context_settings=CONTEXT)
@click.argument("place", metavar="[RUN|STORAGE]", type=PathType(), default="results")
@click.option("--yes", is_flag=True, help="Delete it.")
@json_option
def clean(place: Path, yes: bool, as_json: bool) -> None:
    """Show what may be deleted of a RUN or a STORAGE with runs (default: results), and how much that frees.

    Weights of trials that are neither best nor baseline, nor on the Pareto front, nor compared by the final evaluation;
    what failed trials, killed commands and `replay` have left; of a storage also decoded images that no unfinished run
    needs. Runs on which a command works are left alone. Do not start a search in a storage while it is cleaned.
    """
    from raysweep.runs.cleaning import clean as clean_place  # slow: imports Optuna
    from raysweep.runs.cleaning_text import describe_cleaning

    resolved = place.expanduser().resolve()
    cleaning = clean_place(resolved, delete=yes)
    text = escape_controls(describe_cleaning(cleaning, resolved))
    click.echo(json.dumps(cleaning.to_json(), indent=2) if as_json else text)
