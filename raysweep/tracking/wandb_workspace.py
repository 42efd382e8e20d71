"""Saves a workspace at W&B with the panels that matter of a search; needs the package wandb-workspaces and a server."""

import importlib.util
from typing import Any

from raysweep.tracking.backend import TrackedRun


def save_workspace(study: Any, run: TrackedRun) -> None:
    """Saves the workspace of a run that begins; without the package, or offline, there is none.

    study: the study's run at W&B. Nothing of the search needs it: W&B shows its own workspace beside it.
    """
    if study.resumed or study.offline or importlib.util.find_spec("wandb_workspaces") is None:
        return
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    metric = run.study.objective.metric
    columns = [panels.ParallelCoordinatesPlotColumn(metric=panels.Config(key)) for key in run.study.space]
    value = panels.ParallelCoordinatesPlotColumn(metric=panels.SummaryMetric("best_value"))
    search = [
        panels.LinePlot(title="Best so far", x="trials/ended", y=["best/value"]),
        panels.ParallelCoordinatesPlot(columns=[*columns, value]),
        panels.ParameterImportancePlot(with_respect_to=metric),
    ]
    others = sorted(run.study.task.reported_metrics - {metric})
    curves = [panels.LinePlot(title=name, x="epoch", y=[name]) for name in (metric, *others)]
    workspaces.Workspace(
        entity=study.entity,
        project=study.project,
        name=f"{run.name} ({run.run_id})",
        sections=[
            workspaces.Section(name="Search", panels=search, is_open=True),
            workspaces.Section(name="Learning curves", panels=curves, is_open=True),
        ],
        runset_settings=workspaces.RunsetSettings(filters=workspaces.And(workspaces.Metric("Group") == study.group)),
    ).save()
