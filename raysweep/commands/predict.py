"""`predict`: labels for image files, from a run's best model."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.commands.options import CONTEXT, PathType, open_run, trust_code_option
from raysweep.data.formats import START_BYTES, describe_unknown, find_format
from raysweep.errors import UsageError, escape_controls

if TYPE_CHECKING:
    from raysweep.predict import Prediction


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.argument("images", nargs=-1, required=True, type=PathType())
@click.option("--top-k", type=click.IntRange(min=1), default=1, metavar="K", help="The K likeliest classes of each.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a line for each image.")
@click.option("--csv", "as_csv", is_flag=True, help="A CSV table instead of a line for each image.")
@click.option(
    "--sort-into",
    type=PathType(),
    metavar="FOLDER",
    help="Copies the images there, into a folder for each class, rejected ones apart in _rejected; a new folder.",
)
@click.option(
    "--embeddings",
    type=PathType(),
    metavar="FILE",
    help="Writes what the last layer is given of each image to an .npz file: `images` and `embeddings`.",
)
@trust_code_option
def predict(
    run: Path,
    images: tuple[Path, ...],
    top_k: int,
    as_json: bool,
    as_csv: bool,
    sort_into: Path | None,
    embeddings: Path | None,
    trust_code: bool,
) -> None:
    """Label each of IMAGES, with a confidence, or reject it, by the best model of a RUN's folder.

    IMAGES are files, folders, with all that is below them, and patterns such as "photos/*.jpg". A file that is no
    image is told of on its line; the exit code is 1 then.
    """
    run_folder = open_run(run)
    if as_json and as_csv:
        raise UsageError("predict writes one form, got --json and --csv; give one of them")
    faults = {path: reason for path in images if (reason := find_fault(path))}
    if len(faults) == len(images):  # answered at once
        _show(({"image": str(path), "error": reason} for path, reason in faults.items()), as_json, as_csv, top_k)
        sys.exit(1)
    from raysweep import prediction_files  # slow: after what can be refused without it
    from raysweep.evaluate.stored_model import import_code
    from raysweep.predict import find_images, iterate_predictions

    if sort_into is not None:
        prediction_files.check_sort_folder(sort_into)
    if trust_code:
        import_code(run_folder)
    kept: list[Prediction] = []
    bad = 0

    def follow() -> Iterator[dict[str, Any]]:
        nonlocal bad
        for prediction in iterate_predictions(run_folder, find_images(images), top_k=top_k):
            bad += "error" in prediction.row
            if embeddings is not None:
                kept.append(prediction)
            if sort_into is not None and "error" not in prediction.row:
                prediction_files.sort_image(sort_into, prediction.row)
            yield prediction.row

    _show(follow(), as_json, as_csv, top_k)
    if embeddings is not None:
        prediction_files.save_embeddings(embeddings, kept)
    if bad:
        sys.exit(1)


def find_fault(path: Path) -> str | None:
    """Says why a path leads to no image, as far as that is seen without decoding; none: it may."""
    if any(letter in str(path) for letter in "*?[") or path.is_dir():
        return None
    if path.exists() and not path.is_file():
        return None  # a pipe is read once
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError as error:
        return str(error)
    return None if find_format(start) else describe_unknown(start)


def _show(rows: Iterator[dict[str, Any]], as_json: bool, as_csv: bool, top_k: int) -> None:
    """Writes what is said of each image, as it is known."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2, ensure_ascii=False))
    elif as_csv:
        from raysweep.prediction_files import CsvTable

        table = CsvTable(sys.stdout, top_k)
        for row in rows:
            table.write(row)
    else:
        for row in rows:
            click.echo(f"{escape_controls(str(row['image']))}: {describe_prediction(row)}", err="error" in row)


def describe_prediction(row: dict[str, Any]) -> str:
    """Says for a person what is known of one image."""
    if "error" in row:
        return str(row["error"])
    if row["rejected"]:
        return f"rejected: none of the classes (score {row['score']:.2f}, at least {row['threshold']:.2f} is accepted)"
    likeliest = row.get("top", [row])
    return ", ".join(f"{entry['label']} ({entry['confidence']:.1%})" for entry in likeliest)
