"""`doctor`: what is wrong with a cluster."""

import sys
from pathlib import Path

import click

from raysweep.commands import options as shared


@click.command(context_settings=shared.CONTEXT)
@shared.with_address
@shared.with_storage
@click.option("--study", metavar="STUDY", help="Also looks whether every node can read this study's images.")
@click.option("--data", metavar="PATH|sample", help="Images in place of the study's own.")
@shared.with_trial_size
@click.option("--remove-leaked", is_flag=True, help="First removes placement groups whose jobs have ended.")
def doctor(
    address: str | None,
    storage: Path,
    study: str | None,
    data: str | None,
    workers: int,
    cpus_per_worker: float | None,
    gpus_per_worker: float | None,
    remove_leaked: bool,
) -> None:
    """What is wrong with a cluster, a line for each check, with the command that mends it.

    Exit code 0: nothing is wrong; 1: something is.
    """
    from raysweep.catalogue import load_study
    from raysweep.search.overrides import Overrides

    resolved = Overrides(data=shared.resolve_source(data)).apply(load_study(study)) if study else None
    from raysweep.cluster import doctor as cluster

    if remove_leaked:
        click.echo(f"removed {len(cluster.remove_leaked(address))} placement groups of ended jobs", err=True)
    findings = cluster.diagnose(
        cluster.Question(
            storage=storage.resolve(),
            address=address,
            study=resolved,
            data_root=shared.data_root(),
            num_workers=workers,
            cpus_per_worker=cpus_per_worker,
            gpus_per_worker=gpus_per_worker,
        )
    )
    for finding in findings:
        click.echo(finding)
    if not all(finding.ok for finding in findings):
        sys.exit(1)
