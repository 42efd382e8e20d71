"""`fetch`: puts what a study needs of the network into the cache that all nodes share, for a search without one."""

from typing import Any

import click

from raysweep.commands.options import CONTEXT, with_flags
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides


@click.command(context_settings=CONTEXT)
@click.argument("study")
@with_flags(Overrides, "data", "settings")
@with_flags(RunOptions, "storage")
def fetch(study: str, **values: Any) -> None:
    """Fetch the pretrained weights and the images that STUDY needs into the storage's .cache, and train nothing."""
    from raysweep.search.preflight import check_inputs, fetch_inputs
    from raysweep.search.start import resolve_search

    resolved, options = resolve_search(study, values)
    source = check_inputs(resolved, options)
    cache = options.run_folder.cache
    task = fetch_inputs(resolved, cache).task
    for name, digest in getattr(task, "weights", {}).items():
        click.echo(f"weights {name}: {digest[:12]} in {cache}")
    counts = ", ".join(f"{len(records):,} {split}" for split, records in source.records.items())
    click.echo(f"images {resolved.data.source}: {counts}")
