"""`evaluate` and `predict`, which use a run that is there, and `studies`, which lists what can be run."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from raysweep.commands import options as shared
from raysweep.run_folder import RunFolder


@click.command(context_settings=shared.CONTEXT)
@click.argument("run", type=click.Path(path_type=Path))
def evaluate(run: Path) -> None:
    """The test evaluation of a RUN's folder again; recorded as a further opening of the test split."""
    from raysweep.search.reevaluate import reevaluate

    run_folder = RunFolder(run.resolve())
    test = reevaluate(run_folder, shared.data_root())
    click.echo((run_folder.test / test.report).read_text(encoding="utf-8"), nl=False)
    click.echo(f"The test split of this run has been opened {test.openings} times.")


@click.command(context_settings=shared.CONTEXT)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a line for each image.")
def predict(run: Path, images: tuple[Path, ...], as_json: bool) -> None:
    """Label and confidence for each of IMAGES, or a rejection, from the best model of a RUN's folder."""
    from raysweep.predict import predict_files

    rows = predict_files(RunFolder(run.resolve()), images)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    for row in [] if as_json else rows:
        click.echo(f"{row['image']}: {describe_prediction(row)}", err="error" in row)
    if any("error" in row for row in rows):
        sys.exit(1)


@click.command(context_settings=shared.CONTEXT)
def studies() -> None:
    """The studies there are: task, data, space and baseline."""
    from raysweep.catalogue import list_studies, load_study

    for name, path in list_studies().items():
        study = load_study(str(path))
        click.echo(
            f"{name}  ({study.task.kind} on {study.data.source}, "
            f"{', '.join(f'{objective.direction} {objective.metric}' for objective in study.objectives)})"
        )
        width = max(len(key) for key, _ in study.all_distributions())
        for key, distribution in study.all_distributions():
            baseline = f"   baseline {study.baseline[key]}" if key in study.baseline else ""
            click.echo(f"  {key:<{width}}  {distribution}{baseline}")


def describe_prediction(row: dict[str, Any]) -> str:
    """What is known of one image, for a person."""
    if "error" in row:
        return str(row["error"])
    if row["rejected"]:
        return f"rejected: none of the classes (score {row['score']:.2f}, at least {row['threshold']:.2f} is accepted)"
    return f"{row['label']} ({row['confidence']:.1%})"
