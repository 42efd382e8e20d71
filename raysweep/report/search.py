"""Builds the report's sections on the search."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna import visualization
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from plotly import graph_objects as go

from raysweep.report.charts import BLUE, ORANGE, draw_curves, draw_history, draw_timeline, list_curve, mark_decades
from raysweep.report.focus import focus
from raysweep.report.forecast import forecast_running
from raysweep.report.run_view import RunView
from raysweep.report.section import Cell, Section, render, render_chart, render_table, render_text
from raysweep.search.results import FinalistsRecord
from raysweep.trial_result import BASELINE

BEST_SHARE = 10
"""One in so many complete trials is among the best that are pointed out."""
MIN_EXPLAINED = 4
"""Complete trials from which on it is shown what made the difference: of fewer it is chance."""


def build_search_sections(view: RunView) -> list[Section]:
    """Returns the sections on how the search went."""
    sections = []
    if view.trials:
        if any(trial.value is not None for trial in view.ended):
            sections.append(_build_history(view))
        if len(view.objectives) > 1:
            sections += _build_front(view)
        sections += [*_build_curves(view), _build_timeline(view), *_build_explanations(view)]
    if view.results is not None and view.results.finalists is not None:
        sections.append(_build_finalists(view.results.finalists, view.objectives[0].metric, view.results.test.seeds))
    return [*sections, *_build_table(view)]


def _build_history(view: RunView) -> Section:
    objective = view.objectives[0]
    is_maximized = objective.direction == "maximize"
    better = "higher" if is_maximized else "lower"
    figure = draw_history(view)
    values = [trial.value for trial in view.ended if trial.value is not None and trial.state != "FAIL"]
    left_out = focus(figure, values, is_maximized=is_maximized, also=_find_baseline(view), what="trial")
    return Section(
        title="How the search went",
        how_to_read=f"Each dot is a trial, {better} is better; the line is the best value up to then, and "
        f"where it runs level the search found nothing better.{left_out}",
        html=render_chart(figure, f"{objective.metric} of each trial, and the best so far"),
    )


def _find_baseline(view: RunView) -> list[float]:
    """Returns the baseline's value, where it has one."""
    return [trial.value for trial in view.ended if trial.number == BASELINE and trial.value is not None]


def _build_curves(view: RunView) -> list[Section]:
    forecasts = forecast_running(view)
    figure = draw_curves(view, forecasts)
    if not figure.data:
        return []
    stopped = "; pale lines end where a trial was stopped, as it would hardly have become the best"
    stopped *= any(trial.state == "PRUNED" for trial in view.ended)
    state = view.name_state(TrialState.RUNNING.name)
    values = [value for trial in view.trials for _, value, _ in list_curve(view, trial.number) if value is not None]
    also = [*_find_baseline(view), *(end for forecast in forecasts.values() for end in (forecast.low, forecast.high))]
    is_maximized = view.objectives[0].direction == "maximize"
    left_out = focus(figure, values, is_maximized=is_maximized, also=also, what="value")
    has_baseline = any(trace.name == "baseline" and trace.mode == "lines" for trace in figure.data)  # not a dot
    drawn_on = "; the dashed one is the baseline, drawn on at its best value" * has_baseline
    running = f" Dotted lines lead to where {state} trials are expected to end, with 95 % intervals." * bool(forecasts)
    return [
        Section(
            title="Learning curves",
            how_to_read=f"Each line is a trial, from epoch to epoch{stopped}{drawn_on}.{running}{left_out}",
            html=render_chart(figure, f"{view.objectives[0].metric} after each epoch of all trials"),
        )
    ]


def _build_timeline(view: RunView) -> Section:
    return Section(
        title="Which trial ran when",
        how_to_read="Each bar is a trial, with its number, in the first row that was free as it began; bars above each "
        "other are of trials that ran at the same time. The bar of one that was interrupted goes on through the pause.",
        html=render_chart(draw_timeline(view), "When each trial ran, those at the same time in rows of their own"),
    )


def _build_front(view: RunView) -> list[Section]:
    study, names = view.optuna_study, [objective.metric for objective in view.objectives]
    if study is None or not any(trial.state == TrialState.COMPLETE for trial in view.trials):
        return []
    with _quiet():
        figure = visualization.plot_pareto_front(study, target_names=names)
    for trace, name, colour in zip(figure.data, ("beaten", "on the front"), (BLUE, ORANGE), strict=False):
        trace.update(name=name, showlegend=True)
        trace.marker = {"color": colour, "size": 9, "opacity": 0.8}
    figure.update_yaxes(exponentformat="none", separatethousands=True)
    return [
        Section(
            title="Pareto front",
            how_to_read="Each dot is a trial; of those on the front none is beaten in both, so that choosing among "
            "them trades one for the other.",
            html=render_chart(figure, f"{names[0]} against {names[1]}"),
        )
    ]


def _build_explanations(view: RunView) -> list[Section]:
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
    with _quiet():
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
    figure = draw_importances(view.optuna_study, params, metric)
    return Section(
        title="What mattered",
        how_to_read=f"The longer the bar, the more a setting tells the better trials from the others (PED-ANOVA); of "
        f"{len(view.ended)} trials this is a hint, no proof.",
        html=render_chart(figure, f"Importance of each setting for {metric}"),
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
    figure.update_layout(height=70 + 28 * len(params), showlegend=False, xaxis_title=None, yaxis_title=None)
    figure.update_layout(margin_r=48)
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


def _build_finalists(record: FinalistsRecord, metric: str, seeds: Mapping[str, Any] | None) -> Section:
    """Returns a table of the finalists; seeds: as `TestFigures` has them."""
    rows: list[list[Cell]] = [
        [
            f"{found.trial} (baseline)" if found.trial == BASELINE else str(found.trial),
            found.search_value,
            found.mean,
            found.low,
            found.high,
            len(found.values),
            found.optimism,
        ]
        for found in record.configurations
    ]
    columns = {
        "trial": "",
        "in the search": ".4f",
        "mean of seeds": ".4f",
        "from": ".4f",
        "to": ".4f",
        "seeds": "d",
        "optimism": "+.4f",
    }
    table = render_table(columns, rows, f"{metric} of the finalists and the baseline on validation images")
    on_test = f"All seeds on the test images, by which nothing is chosen: {seeds['text']}." if seeds else ""
    return Section(
        title="Trained again with other seeds",
        how_to_read="The best value of a search is a lucky one: the mean over other seeds, with its 95 % interval, is "
        "what a configuration is worth, and optimism is by how much the search had flattered it.",
        html=table + render_text(on_test) if on_test else table,
    )


def _build_table(view: RunView) -> list[Section]:
    """Returns a table of all trials."""
    keys = list(view.list_space())
    planned = view.num_epochs
    columns = {"trial": "d", "state": "", view.objectives[0].metric: ".4f"}
    columns |= {objective.metric: ".4g" for objective in view.objectives[1:]}
    columns |= {"best epoch": "d", "epochs": "d", "planned": "d", "seconds": ",.0f"}
    ended = view.ended
    columns |= {key: ".4g" * all(_is_number(trial.params.get(key, 0)) for trial in ended) for key in keys}
    rows: list[list[Cell]] = [
        [
            trial.number,
            view.name_state(trial.state),
            trial.value,
            *([trial.second_value] if len(view.objectives) > 1 else []),
            trial.best_epoch,
            len(view.histories.get(trial.number, ())) or None,
            planned.get(trial.number),
            trial.duration_s,
            *(trial.params.get(key) for key in keys),
        ]
        for trial in ended
    ]
    if not rows:
        return []
    return [
        Section(
            title="All trials",
            how_to_read="A click on the name of a column sorts by it.",
            html=render_table(columns, rows, f"{len(rows)} trials that have ended", first="trial"),
            is_folded=len(rows) > 20,
        )
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quiet() -> warnings.catch_warnings:
    """Turns off Optuna's warnings of its plots that are experimental, or leave trials out."""
    return warnings.catch_warnings(action="ignore")
