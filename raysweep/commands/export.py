"""`export`: a run's best model as ONNX, or as a folder that needs torch and Pillow only."""

from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, open_run, trust_code_option


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "standalone"]),
    default="onnx",
    show_default=True,
    help="onnx: one file for any ONNX runtime; standalone: a program and weights, which need torch and Pillow.",
)
@click.option("--output", type=PathType(), metavar="PATH", help="File or folder to write; default: in RUN/export.")
@click.option(
    "--images",
    type=PathType(),
    multiple=True,
    metavar="PATH",
    help="Check the export on these images, not on 100 of the run's test images (repeatable).",
)
@trust_code_option
def export(run: Path, form: str, output: Path | None, images: tuple[Path, ...], trust_code: bool) -> None:
    """Write the best model of a RUN's folder for use without raysweep, and check that it computes the same.

    A classifier takes images of any size and gives label, confidence and whether it accepts; a generator takes noise
    and gives images. Using the test images is recorded as an opening of the test split.
    """
    run_folder = open_run(run)
    if form == "onnx":
        from raysweep.export.packages import check_installed

        check_installed()
    from raysweep.evaluate.stored_model import import_code  # slow: after what can be refused without it
    from raysweep.export.run import export_run
    from raysweep.search.start import find_data_root

    if trust_code:
        import_code(run_folder)
    done = export_run(
        run_folder,
        form="onnx" if form == "onnx" else "standalone",
        output=output and output.expanduser().resolve(),
        images=images,
        data_root=find_data_root(),
    )
    click.echo(done.usage, err=True)
    click.echo(f"{done.path}: {done.parity}")
