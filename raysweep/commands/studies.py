"""`studies`: the studies that can be run."""

import click

from raysweep.commands.options import CONTEXT


@click.command(context_settings=CONTEXT)
def studies() -> None:
    """List the studies there are: task, data, space and baseline."""
    from raysweep.catalogue import list_studies, load_study
    from raysweep.distributions import describe_distribution, to_setting

    for name, path in list_studies().items():
        study = load_study(str(path))
        click.echo(
            f"{name}  ({study.task.kind} on {study.data.source}, "
            f"{', '.join(f'{objective.direction} {objective.metric}' for objective in study.objectives)})"
        )
        width = max(len(key) for key, _ in study.all_distributions())
        for key, distribution in study.all_distributions():
            baseline = f"   baseline {to_setting(study.baseline[key])}" if key in study.baseline else ""
            click.echo(f"  {key:<{width}}  {describe_distribution(distribution, to_setting)}{baseline}")
