"""Builds the report's sections on what made the difference between trials: importances, slices."""

from collections.abc import Mapping

import optuna
from optuna import visualization
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from plotly import graph_objects as go

from raysweep.report.charts import BLUE, ORANGE, mark_decades, quiet
from raysweep.report.run_view import RunView
from raysweep.report.section import Section, render, render_chart

BEST_SHARE = 10
"""One in so many complete trials is among the best that are pointed out."""
MIN_EXPLAINED = 4
"""Complete trials from which on it is shown what made the difference: of fewer it is chance."""


def build_explanation_sections(view: RunView) -> list[Section]:
    """Returns what made the difference, where there are trials enough to ask."""
    study, metric = view.optuna_study, view.objectives[0].metric
    complete = [trial for trial in view.trials if trial.state == TrialState.COMPLETE]
    space = {
        key: distribution
        for key, distribution in view.list_space().items()
        if len({str(trial.params.get(key)) for trial in complete if key in trial.params}) > 1
    }
    if study is None or len(complete) < MIN_EXPLAINED or not space:
        return []
    with quiet():
        shared = [key for key in space if all(key in trial.params for trial in complete)]
        sections = [_build_importances(view, shared)] if len(shared) > 1 else []
        figure = visualization.plot_parallel_coordinate(
            study, params=shared or list(space), target=lambda trial: trial.values[0], target_name=metric
        )
        names = [metric, *sorted(shared or space)]
        figure = restyle_parallel(figure, names, is_maximized=view.objectives[0].direction == "maximize")
        sections.append(
            Section(
                title="All settings at once",
                how_to_read="Each line is a complete trial, through the value of each of its settings; where the "
                "orange lines, those of the best tenth, run together, a setting mattered.",
                html=render_chart(figure, "Settings and objective of all complete trials", min_width_px=720),
            )
        )
        return [*sections, _build_slices(view, space)]


def _build_importances(view: RunView, params: list[str]) -> Section:
    assert view.optuna_study is not None
    metric = view.objectives[0].metric
    return Section(
        title="What mattered",
        how_to_read=f"The longer the bar, the more a setting tells the better trials from the others (PED-ANOVA); of "
        f"{len(view.ended)} trials this is a hint, no proof.",
        html=render_chart(
            draw_importances(view.optuna_study, params, metric), f"Importance of each setting for {metric}"
        ),
    )


def draw_importances(study: optuna.Study, params: list[str], metric: str) -> go.Figure:
    """Draws how much each setting tells the best tenth of the trials, by the first objective, from all of them.

    PED-ANOVA takes lower targets for better ones, whatever the study's direction.
    """
    sign = -1 if study.directions[0] == StudyDirection.MAXIMIZE else 1
    figure = visualization.plot_param_importances(
        study, params=params, target=lambda trial: sign * trial.values[0], target_name=metric
    )
    figure.update_traces(marker_color=BLUE)
    figure.update_layout(height=70 + 28 * len(params), showlegend=False, margin_r=48)
    figure.update_layout(xaxis_title=None, yaxis_title=None)
    return figure


def _build_slices(view: RunView, space: Mapping[str, BaseDistribution]) -> Section:
    assert view.optuna_study is not None
    metric = view.objectives[0].metric
    charts = []
    for key in space:
        figure = visualization.plot_slice(
            view.optuna_study, params=[key], target=lambda trial: trial.values[0], target_name=metric
        )
        figure.update_traces(
            marker={
                "color": BLUE,
                "opacity": 0.65,
                "size": 7,
                "line": {"width": 0},
                "showscale": False,
                "colorbar": None,
            }
        )
        figure.update_layout(height=240, width=None, showlegend=False, yaxis_title=None, xaxis_title=key)
        values = [value for trace in figure.data for value in trace.x]
        if figure.layout.xaxis.type == "log" and values:
            marks = mark_decades(values)
            figure.update_xaxes(tickvals=marks, ticktext=[f"{mark:g}" for mark in marks])
        for trace in figure.data:
            trace.x = [value.strip("'") if isinstance(value, str) else value for value in trace.x]
        charts.append(render_chart(figure, f"{metric} by {key}"))
    return Section(
        title="Each setting by itself",
        how_to_read=f"Each dot is a complete trial, with {metric} upwards; a slope or a peak shows where a setting did "
        "well, whatever the others were.",
        html=render("grid.html", items=charts),
    )


def restyle_parallel(figure: go.Figure, names: list[str], *, is_maximized: bool) -> go.Figure:
    """Gives the best trials a colour of their own, in place of shades that are pale on paper or in the dark.

    `names` are those of the axes, from left to right, of which Optuna shows the first letters only.
    """
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.customdata is not None]
    losses = [-trace.y[0] if is_maximized else trace.y[0] for trace in lines]  # where they begin; the text is rounded
    last = sorted(losses)[max(1, len(losses) // BEST_SHARE) - 1]
    for trace, loss in zip(lines, losses, strict=True):
        leads = loss <= last
        trace.line.update(color=ORANGE if leads else BLUE, width=2 if leads else 1.2)
        trace.opacity = 0.9 if leads else 0.3
    figure.data = [*sorted(lines, key=lambda trace: trace.opacity)]
    for annotation in figure.layout.annotations:
        annotation.font.color = None
    labels = [name.replace(".", ".<br>").replace("_", "_<br>") for name in names]
    figure.update_xaxes(ticktext=labels, tickangle=0, tickfont_size=10)
    figure.update_layout(height=460, width=None, showlegend=False)
    return figure
