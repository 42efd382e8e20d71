"""`plan`: what `tune` would take."""

import json
from pathlib import Path

import click

from raysweep.commands import options as shared


@click.command(context_settings=shared.CONTEXT)
@click.argument("study")
@shared.with_changes
@shared.with_storage
@shared.with_address
@shared.with_trial_size
@click.option(
    "--cluster",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A cluster's configuration with prices of its nodes; default: this head's, else ./cluster.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def plan(
    study: str,
    data: str | None,
    trials: int | None,
    max_epochs: int | None,
    settings: tuple[str, ...],
    seed: int | None,
    storage: Path,
    address: str | None,
    workers: int,
    cpus_per_worker: float | None,
    gpus_per_worker: float | None,
    cluster: Path | None,
    as_json: bool,
) -> None:
    """What `tune` would take, after a short probe: concurrency, memory, disk, time, and cost where there are prices.

    Exit code 0: it fits; 2: it does not, with the arithmetic. Images are decoded, and are then there for `tune`.
    """
    from raysweep.catalogue import load_study
    from raysweep.search.overrides import Overrides

    overrides = Overrides(
        data=shared.resolve_source(data), trials=trials, max_epochs=max_epochs, settings=settings, seed=seed
    )
    resolved = overrides.apply(load_study(study))
    from raysweep.planning.forecast import describe_plan, plan_to_json
    from raysweep.planning.probe import find_cluster, plan_study
    from raysweep.search.options import RunOptions  # slow: after what can be refused without it

    options = RunOptions(
        storage=storage.resolve(),
        name=resolved.name,
        address=address,
        num_workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        data_root=shared.data_root(),
    )
    made = plan_study(resolved, options, cluster or find_cluster())
    click.echo(json.dumps(plan_to_json(made), indent=2) if as_json else describe_plan(made))
