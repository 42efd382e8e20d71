"""`plan`: what `tune` would take."""

import json
from pathlib import Path
from typing import Any

import click

from raysweep.commands.options import CONTEXT, with_flags
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides


@click.command(context_settings=CONTEXT)
@click.argument("study")
@with_flags(Overrides, "data", "trials", "max_epochs", "settings", "seed", "keep_checkpoints")
@with_flags(RunOptions, "storage", "address", "num_workers", "cpus_per_worker", "gpus_per_worker", "trials_per_gpu")
@click.option(
    "--cluster",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A cluster's configuration with prices of its nodes; default: this head's, else ./cluster.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def plan(study: str, cluster: Path | None, as_json: bool, **values: Any) -> None:
    """Forecast what `tune` would take, after a short probe: concurrency, memory, disk, time, cost with your prices.

    Exit code 0: it fits; 2: it does not, with the arithmetic. Images are decoded, and are then there for `tune`.
    """
    from raysweep.search.preflight import check_inputs
    from raysweep.search.start import resolve_search

    resolved, options = resolve_search(study, values)
    source = check_inputs(resolved, options)
    from raysweep.planning.forecast import (
        describe_forecast,
        forecast_to_json,
    )  # slow: after what can be refused without it
    from raysweep.planning.probe import find_cluster, forecast_study

    forecast = forecast_study(resolved, options, cluster or find_cluster(), source)
    click.echo(json.dumps(forecast_to_json(forecast), indent=2) if as_json else describe_forecast(forecast))
