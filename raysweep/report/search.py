"""Builds the report's sections on the search."""

from collections.abc import Mapping
from typing import Any

from optuna import visualization
from optuna.trial import TrialState

from raysweep.report.charts import BLUE, ORANGE, draw_curves, draw_history, draw_timeline, list_curve, quiet
from raysweep.report.explanations import build_explanation_sections
from raysweep.report.focus import focus
from raysweep.report.forecast import forecast_running
from raysweep.report.run_view import RunView
from raysweep.report.section import Cell, Section, render_chart, render_table, render_text
from raysweep.search.results import FinalistsRecord
from raysweep.trial_result import BASELINE


def build_search_sections(view: RunView) -> list[Section]:
    """Returns the sections on how the search went."""
    sections = []
    if view.trials:
        if any(trial.value is not None for trial in view.ended):
            sections.append(_build_history(view))
        if len(view.objectives) > 1:
            sections += _build_front(view)
        sections += [*_build_curves(view), _build_timeline(view), *build_explanation_sections(view)]
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
    with quiet():
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
