"""`predict`: labels for image files, from a run's best model."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from raysweep.commands.options import CONTEXT, PathType
from raysweep.data.formats import START_BYTES, describe_unknown, find_format
from raysweep.errors import UsageError, escape_controls
from raysweep.run_folder import RunFolder


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.argument("images", nargs=-1, required=True, type=PathType())
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a line for each image.")
@click.option("--trust-code", is_flag=True, help="Runs the code of somebody's own that the run names.")
def predict(run: Path, images: tuple[Path, ...], as_json: bool, trust_code: bool) -> None:
    """Label each of IMAGES, with a confidence, or reject it, by the best model of a RUN's folder."""
    run_folder = RunFolder(run.expanduser().resolve())
    if not run_folder.best.config.is_file():
        raise UsageError(f"{run} is not the folder of a finished run: it has no best/{run_folder.best.config.name}")
    rows = [{"image": str(path), "error": reason} for path in images if (reason := find_fault(path))]
    if len(rows) < len(images):
        from raysweep.evaluate.stored_model import import_code  # slow: after what can be refused without it
        from raysweep.predict import predict_files

        if trust_code:
            import_code(run_folder)
        rows = predict_files(run_folder, images)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    for row in [] if as_json else rows:
        click.echo(f"{escape_controls(str(row['image']))}: {describe_prediction(row)}", err="error" in row)
    if any("error" in row for row in rows):
        sys.exit(1)


def find_fault(path: Path) -> str | None:
    """Says why a file is no image that can be labelled, as far as its first bytes tell; none: it may be one."""
    if path.exists() and not path.is_file() and not path.is_dir():
        return None  # a pipe is read once
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError as error:
        return str(error)
    return None if find_format(start) else describe_unknown(start)


def describe_prediction(row: dict[str, Any]) -> str:
    """Says for a person what is known of one image."""
    if "error" in row:
        return str(row["error"])
    if row["rejected"]:
        return f"rejected: none of the classes (score {row['score']:.2f}, at least {row['threshold']:.2f} is accepted)"
    return f"{row['label']} ({row['confidence']:.1%})"
