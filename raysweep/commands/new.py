"""`new`: a study file for a folder of images, to be read, changed and run."""

from pathlib import Path

import click

from raysweep.commands.options import CONTEXT, with_flags
from raysweep.errors import UsageError
from raysweep.paths import resolve_path
from raysweep.search.options import RunOptions, check_name
from raysweep.search.overrides import parse_duration


@click.command(context_settings=CONTEXT)
@click.argument("name")
@click.option("--data", "source", required=True, metavar="FOLDER", help="The images, or any source that `tune` takes.")
@click.option("--time-budget", default="1h", show_default=True, metavar="2h", help="What the search may take.")
@with_flags(RunOptions, "storage", storage="Below it downloads and drawn images are kept.")
def new(name: str, source: str, time_budget: str, storage: Path) -> None:
    """Write a study file for the images in FOLDER: task, image size, networks, search space and budget, with reasons.

    NAME becomes search_spaces/NAME.py; a path that ends in .py is the file itself.
    """
    from raysweep.data.sources import resolve_source
    from raysweep.search.start import find_data_root

    is_path = name.endswith(".py")
    path = Path(name) if is_path else Path("search_spaces") / f"{name}.py"
    resolve_path(path, "NAME")
    check_name(path.stem)
    try:
        time_s = parse_duration(time_budget)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--time-budget") from None
    if path.exists():
        raise UsageError(f"{path} exists and is not overwritten; remove it, or give another name")
    from raysweep.proposal.facts import look_at_machine
    from raysweep.proposal.study_file import write_proposal

    write_proposal(
        path,
        path.stem,
        resolve_source(source),
        look_at_machine(),
        time_s=time_s,
        storage=storage.expanduser().resolve(),
        data_root=find_data_root(),
    )
    click.echo(f"{path}\nrun it with `tune {path if is_path else name}`")
