"""`doctor`: what is wrong with a cluster."""

import sys
from pathlib import Path
from typing import Any

import click

from raysweep.commands.options import CONTEXT, with_flags
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides


@click.command(context_settings=CONTEXT)
@with_flags(RunOptions, "address", "storage")
@click.option("--study", metavar="STUDY", help="Also looks whether every node can read this study's images.")
@with_flags(Overrides, "data", data="Images in place of the study's own.")
@with_flags(RunOptions, "num_workers", "cpus_per_worker", "gpus_per_worker")
@click.option("--remove-leaked", is_flag=True, help="First removes placement groups whose jobs have ended.")
def doctor(study: str | None, data: str | None, storage: Path, remove_leaked: bool, **size: Any) -> None:
    """Find what is wrong with a cluster: a line for each check, with the command that mends it.

    Exit code 0: nothing is wrong; 1: something is.
    """
    from raysweep.catalogue import load_study
    from raysweep.search.start import build_overrides, find_data_root

    resolved = build_overrides({"data": data}).apply(load_study(study)) if study else None
    from raysweep.cluster import doctor as cluster  # slow: after what can be refused without it

    if remove_leaked:
        click.echo(f"removed {len(cluster.remove_leaked(size['address']))} placement groups of ended jobs", err=True)
    findings = cluster.diagnose(
        cluster.Question(storage=storage.expanduser().resolve(), study=resolved, data_root=find_data_root(), **size)
    )
    for finding in findings:
        click.echo(finding)
    if not all(finding.ok for finding in findings):
        sys.exit(1)
