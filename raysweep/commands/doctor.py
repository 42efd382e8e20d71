"""`doctor`: what is wrong with a cluster, and what a search survives."""

import sys
from pathlib import Path
from typing import Any

import click

from raysweep.commands.options import CONTEXT, with_flags
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides

TABLE_WIDTH = 160
"""Of the chaos test's table where stdout is no terminal."""


@click.command(context_settings=CONTEXT)
@with_flags(RunOptions, "address", "storage")
@click.option("--study", metavar="STUDY", help="Also looks whether every node can read this study's images.")
@with_flags(Overrides, "data", data="Images in place of the study's own.")
@with_flags(RunOptions, "num_workers", "cpus_per_worker", "gpus_per_worker")
@click.option("--remove-leaked", is_flag=True, help="First removes placement groups whose jobs have ended.")
@click.option(
    "--chaos",
    is_flag=False,
    flag_value="",
    metavar="[STUDY]",
    help="Instead: runs a small search of this study (default: of the sample) that is killed, cut and filled up on "
    "purpose, and compares it with one left alone; on a Ray of its own unless --address is given. Minutes.",
)
@click.option("--faults", metavar="NAME,...", help="Which faults of --chaos; default: all that harm nobody else.")
def doctor(
    study: str | None,
    data: str | None,
    storage: Path,
    remove_leaked: bool,
    chaos: str | None,
    faults: str | None,
    **size: Any,
) -> None:
    """Find what is wrong with a cluster: a line for each check, with the command that mends it.

    Exit code 0: nothing is wrong; 1: something is.
    """
    from raysweep.catalogue import load_study
    from raysweep.search.start import build_overrides, find_data_root

    if chaos is not None:
        _disturb(chaos or study, data, storage, size["address"], faults)
        return
    if faults is not None:
        raise click.UsageError("--faults goes with --chaos")
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


def _disturb(study: str | None, data: str | None, storage: Path, address: str | None, faults: str | None) -> None:
    """Runs the chaos test and prints its table; exits with 1 where a search has not survived a fault."""
    from rich.console import Console

    from raysweep.chaos import run
    from raysweep.chaos.table import draw_table
    from raysweep.chaos.victim import LOCAL

    folder, outcomes = run.run_chaos(
        run.Question(
            study=study,
            data=data,
            storage=storage.resolve(),
            address=address or LOCAL,
            faults=run.choose_faults(faults),
        )
    )
    found = []
    for outcome in outcomes:
        click.echo(f"{outcome.fault}: {outcome.verdict}", err=True)
        found.append(outcome)
    console = Console()
    (console if console.is_terminal else Console(width=TABLE_WIDTH)).print(draw_table(found))
    click.echo(f"{run.describe(found)}; runs and logs: {folder}")
    if any(outcome.problems for outcome in found):
        sys.exit(1)
