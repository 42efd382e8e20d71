"""`publish`: a run's best model with a model card, to a folder or to the Hugging Face hub."""

from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, PathType, open_run, trust_code_option


@click.command(context_settings=CONTEXT)
@click.argument("run", type=PathType())
@click.option(
    "--to",
    required=True,
    metavar="FOLDER|hf:OWNER/NAME",
    help="A new folder; or a repository of the Hugging Face hub, to which it is pushed with your HF_TOKEN.",
)
@click.option("--public", is_flag=True, help="Makes a new repository public; without it a new one is private.")
@click.option("--license", "license_name", metavar="NAME", help="The model's licence as the hub spells it: apache-2.0.")
@trust_code_option
def publish(run: Path, to: str, public: bool, license_name: str | None, trust_code: bool) -> None:
    """Publish the best model of a RUN's folder with a card of data, test figures, intended use and limits.

    No image is published, nor the folder that they lie in; files of networks and the like of your own go along. Only
    hf: leaves this machine.
    """
    run_folder = open_run(run)
    from raysweep.evaluate.stored_model import import_code  # slow: after what can be refused without it
    from raysweep.publish.run import publish_run

    if trust_code:
        import_code(run_folder)
    click.echo(publish_run(run_folder, to, license_name=license_name, public=public).place)
