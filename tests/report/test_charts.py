"""The report's own figures: rows of a timeline, and what is drawn of trials in each state."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import optuna
import pytest
from optuna import visualization
from optuna.distributions import BaseDistribution, FloatDistribution

from raysweep.report.charts import ORANGE, assign_lanes, draw_curves, draw_timeline, mark_decades
from raysweep.report.explanations import restyle_parallel
from raysweep.report.forecast import forecast_running
from raysweep.report.run_view import load_view
from raysweep.report.search import build_search_sections
from raysweep.run_folder import RunFolder
from raysweep.search.session.lock import hold_lock


@pytest.mark.parametrize(
    ("spans", "lanes"),
    [
        ([(0, 4), (0, 2), (2, 3), (3, 6), (4, 5)], [0, 1, 1, 1, 0]),
        ([(5, 6), (0, 4)], [0, 0]),
        ([(0, 9), (1, 9), (2, 9)], [0, 1, 2]),
    ],
)
def test_a_trial_takes_the_first_row_that_is_free(spans: list[tuple[int, int]], lanes: list[int]) -> None:
    zero = datetime(2026, 1, 1, tzinfo=UTC)
    times = [(zero + timedelta(seconds=start), zero + timedelta(seconds=end)) for start, end in spans]
    assert assign_lanes(times) == lanes


@pytest.mark.parametrize("is_running", [True, False])
def test_an_open_trial_is_drawn_on_to_where_it_is_expected_to_end(under_way: RunFolder, is_running: bool) -> None:
    with hold_lock(under_way) if is_running else nullcontext():
        view = load_view(under_way)
    state = "running" if is_running else "interrupted"
    forecasts = forecast_running(view)
    assert list(forecasts) == [7]
    assert forecasts[7].low < forecasts[7].expected < forecasts[7].high
    traces = {trace.name: trace for trace in draw_curves(view, forecasts).data}
    assert traces[state].x == (1, 2, 3, 4, None)
    assert traces[f"forecast of {state}"].x == (4, view.num_epochs[7], None)
    assert traces[f"forecast of {state}"].y[1] == pytest.approx(forecasts[7].expected, rel=1e-5)


def test_reading_a_run_for_its_report_writes_nothing(under_way: RunFolder) -> None:
    before = under_way.journal.read_bytes()
    forecast_running(load_view(under_way))
    assert under_way.journal.read_bytes() == before


def test_a_timeline_tells_states_apart(finished: RunFolder) -> None:
    traces = {trace.name: trace for trace in draw_timeline(load_view(finished)).data}
    assert traces["failed"].customdata == (3,)
    assert traces["stopped early"].customdata == (5,)
    assert len(traces["complete"].customdata) == 10


def test_rows_of_a_timeline_are_no_workers(finished: RunFolder) -> None:
    view = load_view(finished)
    axis = draw_timeline(view).layout.yaxis
    assert (axis.title.text, axis.showticklabels) == (None, False), "a row is no worker"
    (section,) = (section for section in build_search_sections(view) if section.title == "Which trial ran when")
    assert "worker" not in section.how_to_read + section.html


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.93128), ("minimize", 0.93121)])
def test_the_line_of_the_best_trial_is_orange_however_close_the_others_are(
    direction: Literal["maximize", "minimize"], best: float
) -> None:
    study = optuna.create_study(direction=direction)
    distributions: dict[str, BaseDistribution] = {"rate": FloatDistribution(0.0, 1.0)}
    for rate in range(1, 9):
        params = {"rate": rate / 10}
        trial = optuna.trial.create_trial(params=params, distributions=distributions, value=0.9312 + rate * 1e-5)
        study.add_trial(trial)
    figure = visualization.plot_parallel_coordinate(study)
    figure = restyle_parallel(figure, ["value", "rate"], is_maximized=direction == "maximize")
    leading = [trace.customdata[1][1] for trace in figure.data if trace.line.color == ORANGE]
    assert leading == [f"{round((best - 0.9312) * 1e5) / 10}"]


def test_axes_of_all_settings_have_their_whole_names() -> None:
    study = optuna.create_study()
    names = ["task.discriminator_steps", "task.discriminator_learning_rate", "task.beta1"]
    distributions: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in names}
    for value in (0.2, 0.4):
        params = {name: value + place / 10 for place, name in enumerate(names)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    figure = visualization.plot_parallel_coordinate(study)
    shown = list(figure.layout.xaxis.ticktext)
    wanted = ["Objective Value", *sorted(names)]
    assert all(name.startswith(label.removesuffix("...")) for name, label in zip(wanted, shown, strict=True))
    restyled = restyle_parallel(figure, wanted, is_maximized=False).layout.xaxis.ticktext
    assert [label.replace("<br>", "") for label in restyled] == wanted


def test_a_baseline_of_one_epoch_is_a_dot(record_run: Callable[..., Any]) -> None:
    run = record_run("one_epoch")
    for _ in range(2):
        run.end(run.start(num_epochs=1))
    traces = {trace.name: trace for trace in draw_curves(load_view(run.folder), {}).data}
    assert traces["baseline"].mode == "lines+markers"


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([2e-4, 4.9e-3], [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]),
        ([16, 256], [20, 50, 100, 200]),
        ([1.3e-5, 0.2], [1e-4, 1e-3, 1e-2, 1e-1]),
        ([300, 4000], [500, 1000, 2000]),
        ([0.3, 0.4501], [0.3, 0.45]),
    ],
)
def test_logarithmic_axes_are_marked_alike(values: list[float], marks: list[float]) -> None:
    assert mark_decades(values) == marks
