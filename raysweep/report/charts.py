"""Draws the figures of a search that Optuna has not: history, timeline of trials, learning curves; marks axes."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from plotly import graph_objects as go

from raysweep.report.run_view import RunView
from raysweep.search.strategy.curve_model import Forecast
from raysweep.trial_result import BASELINE, TrialResult

BLUE, ORANGE, GREEN, RED, GREY = "#0b7bc1", "#cb5f0e", "#0a8f6b", "#d03b4a", "#7a8794"
"""Told apart by who sees no red or green, and at least 3 : 1 against white and against the dark page."""
COLOURS = {
    TrialState.COMPLETE: BLUE,
    TrialState.PRUNED: GREY,
    TrialState.FAIL: RED,
    TrialState.RUNNING: GREEN,
}
MANY_DECADES = 2.5
"""Decades of a logarithmic axis above which each is marked once."""
FEW = 15
"""Whole numbers on an axis up to which each has a tick."""
Point = tuple[float | None, float | None, int | None]
"""Horizontal and vertical position, and the number of the trial; all none: a gap in the line."""
GAP: Point = (None, None, None)


def draw_history(view: RunView) -> go.Figure:
    """Draws each trial's value, the best up to then, and the baseline."""
    objective, ended = view.objectives[0], [trial for trial in view.ended if trial.value is not None]
    figure = go.Figure()
    for state, symbol in (("PRUNED", "x-thin-open"), ("COMPLETE", "circle")):
        colour, shown = COLOURS[TrialState[state]], [trial for trial in ended if trial.state == state]
        if shown:
            label = view.name_state(state)
            figure.add_trace(_scatter(label, map(_locate, shown), colour, mode="markers", symbol=symbol))
    best: float | None = None
    steps: list[Point] = []
    for trial in ended:
        if trial.state == "COMPLETE" and trial.value is not None and objective.is_better(trial.value, best):
            best = trial.value
        if best is not None:
            steps.append((trial.number, best, trial.number))
    if len(steps) > 1:
        figure.add_trace(_scatter("best so far", steps, ORANGE, shape="hv"))
    if ended and ended[0].number == BASELINE:
        ends = [(0, ended[0].value, BASELINE), (ended[-1].number, ended[0].value, BASELINE)]
        figure.add_trace(_scatter("baseline", ends, GREY, dash="dash"))
    figure.update_layout(xaxis=_count("trial", len(ended)), yaxis_title=objective.metric)
    return figure


def _count(title: str, most: int) -> dict[str, Any]:
    """Returns an axis of whole numbers: where there are few, a tick at each."""
    return {"title": title, "rangemode": "tozero", **({"dtick": 1} if most <= FEW else {})}


def _locate(trial: TrialResult) -> Point:
    return trial.number, trial.value, trial.number


def _scatter(
    name: str,
    points: Iterable[Point],
    colour: str,
    *,
    mode: str = "lines",
    symbol: str = "circle",
    **line: Any,
) -> go.Scatter:
    """Builds a trace whose points say which trial they are of."""
    xs, ys, numbers = zip(*points, strict=True)
    return go.Scatter(
        name=name,
        x=xs,
        y=[None if y is None else float(f"{y:.6g}") for y in ys],
        customdata=numbers,
        mode=mode,
        marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 1.5, "color": colour}},
        line={"color": colour, "width": 2, **line},
        hovertemplate="trial %{customdata}: %{y}<extra></extra>",
    )


def draw_timeline(view: RunView) -> go.Figure:
    """Draws which trial ran when, those at the same time in rows of their own; which worker ran it is not stored."""
    trials = [trial for trial in view.trials if trial.datetime_start is not None]
    now = _find_now(view, trials)
    began = min(_start(trial) for trial in trials)
    longest = max((_end(trial, now) - began).total_seconds() for trial in trials)
    seconds, unit = (3600, "hours") if longest > 4 * 3600 else (60, "minutes")
    lanes = assign_lanes([(_start(trial), _end(trial, now)) for trial in trials])
    figure = go.Figure()
    for state, colour in COLOURS.items():
        label = view.name_state(state.name)
        shown = [(trial, lane) for trial, lane in zip(trials, lanes, strict=True) if trial.state == state]
        if shown:
            spans = [(_end(trial, now) - _start(trial)).total_seconds() for trial, _ in shown]
            figure.add_trace(
                go.Bar(
                    name=label,
                    orientation="h",
                    width=0.8,
                    y=[lane + 1 for _, lane in shown],
                    base=[round((_start(trial) - began).total_seconds() / seconds, 3) for trial, _ in shown],
                    x=[round(span / seconds, 3) for span in spans],
                    customdata=[trial.number for trial, _ in shown],
                    text=[str(trial.number) for trial, _ in shown],
                    textposition="inside",
                    insidetextanchor="middle",
                    textangle=0,
                    textfont={"color": "#fff"},
                    marker={"color": colour, "line": {"width": 1, "color": "rgba(255,255,255,.6)"}},
                    hovertemplate=f"trial %{{customdata}}, {label}: %{{x:.1f}} {unit}<extra></extra>",
                )
            )
    figure.update_layout(
        barmode="overlay",
        height=150 + 26 * (max(lanes) + 1),
        xaxis_title=f"{unit} since the first trial began",
        yaxis={"range": [max(lanes) + 1.6, 0.4], "showticklabels": False, "showgrid": False},
        uniformtext={"mode": "hide", "minsize": 9},
    )
    return figure


def assign_lanes(spans: Sequence[tuple[datetime, datetime]]) -> list[int]:
    """Gives each span, in the order of their starts, the lowest row that is free when it begins."""
    free_from: list[datetime] = []
    lanes = [0] * len(spans)
    for index in sorted(range(len(spans)), key=lambda index: spans[index][0]):
        start, end = spans[index]
        lane = next((lane for lane, free in enumerate(free_from) if free <= start), len(free_from))
        if lane == len(free_from):
            free_from.append(end)
        free_from[lane] = end
        lanes[index] = lane
    return lanes


def _start(trial: FrozenTrial) -> datetime:
    assert trial.datetime_start is not None
    return _with_zone(trial.datetime_start)


def _end(trial: FrozenTrial, now: datetime) -> datetime:
    return max(now, _start(trial)) if trial.datetime_complete is None else _with_zone(trial.datetime_complete)


def _with_zone(time: datetime) -> datetime:
    """Returns a time with its zone: Optuna's earlier versions write local times without one."""
    return time.astimezone(UTC)


def _find_now(view: RunView, trials: Sequence[FrozenTrial]) -> datetime:
    """Returns until when trials that have not ended are drawn: now, or the last time known of an interrupted run."""
    if view.is_running:
        return datetime.now(UTC)
    known = [time for trial in trials for time in (trial.datetime_start, trial.datetime_complete) if time is not None]
    return max(map(_with_zone, known))


def draw_curves(view: RunView, forecasts: Mapping[int, Forecast]) -> go.Figure:
    """Draws the objective after each epoch of all trials, and where those that have not ended are expected to end."""
    curves = {number: list_curve(view, number) for number in (trial.number for trial in view.trials)}
    states = {trial.number: trial.state for trial in view.trials}
    best = view.best.number if view.best is not None else None
    figure = go.Figure()
    for state, colour in COLOURS.items():
        others = [number for number, its in states.items() if its == state and number not in (best, BASELINE)]
        points = [point for number in others for point in (*curves[number], GAP)]
        if any(curves[number] for number in others):
            label = view.name_state(state.name)
            trace = _scatter(label, points, colour, mode="lines+markers", width=1.2)
            trace.opacity = 0.4 if state in (TrialState.PRUNED, TrialState.FAIL) else 0.65
            trace.marker.size = 3 if state != TrialState.RUNNING else 5
            figure.add_trace(trace)
    if forecasts:
        figure.add_trace(_draw_forecasts(view, curves, forecasts))
    if curves.get(BASELINE) and best != BASELINE:
        mode = "lines" if len(curves[BASELINE]) > 1 else "lines+markers"  # a line through one epoch is not seen
        figure.add_trace(_scatter("baseline", _extend(view, curves), GREY, mode=mode, width=2.5, dash="dash"))
    if best is not None and curves.get(best):
        label = "best, the baseline" if best == BASELINE else "best"
        figure.add_trace(_scatter(label, curves[best], ORANGE, mode="lines+markers", width=3))
    figure.update_traces(hovertemplate="trial %{customdata}, epoch %{x}: %{y}<extra></extra>")
    longest = max((point[0] or 0 for trace in curves.values() for point in trace), default=0)
    figure.update_layout(xaxis=_count("epoch", int(longest)), yaxis_title=view.objectives[0].metric, height=440)
    return figure


def _extend(view: RunView, curves: Mapping[int, list[Point]]) -> list[Point]:
    """Extends the baseline's curve at its best value, for trials that are longer."""
    own = curves[BASELINE]
    last = max(point[0] or 0 for curve in curves.values() for point in curve)
    pick = max if view.objectives[0].direction == "maximize" else min
    level = pick(point[1] for point in own if point[1] is not None)
    return [*own, GAP, (own[-1][0], level, BASELINE), (last, level, BASELINE)]


def _draw_forecasts(view: RunView, curves: Mapping[int, list[Point]], forecasts: Mapping[int, Forecast]) -> go.Scatter:
    """Builds dotted lines from where open trials are to where they are expected to end, with the 95 % interval."""
    points: list[Point] = []
    above: list[float] = []
    below: list[float] = []
    for number, forecast in forecasts.items():
        end = (view.num_epochs[number], forecast.expected, number)
        points += [*curves[number][-1:], end, GAP]
        sides = [abs(side - forecast.expected) for side in (forecast.high, forecast.low)]
        before = [0.0] * len(curves[number][-1:])
        above += [*before, sides[0], 0.0]
        below += [*before, sides[1], 0.0]
    name = f"forecast of {view.name_state(TrialState.RUNNING.name)}"
    trace = _scatter(name, points, GREEN, dash="dot", mode="lines+markers", symbol="diamond-open")
    trace.marker.size = [9 if value else 0 for value in above]
    trace.error_y = {"array": above, "arrayminus": below, "symmetric": False, "color": GREEN, "thickness": 1}
    return trace


def list_curve(view: RunView, number: int) -> list[Point]:
    """Lists the objective after each epoch of a trial: from its metrics, else as the Optuna study has it."""
    metric = view.objectives[0].metric
    rows = [(row["epoch"], row[metric]) for row in view.histories.get(number, []) if metric in row]
    if not rows:
        trial = next(trial for trial in view.trials if trial.number == number)
        rows = sorted(trial.intermediate_values.items())
    return [(int(epoch), value, number) for epoch, value in rows if math.isfinite(value)]


def mark_decades(values: Sequence[float]) -> list[float]:
    """Marks a logarithmic axis of these values: at 1, 2 and 5 of each decade; over many decades at 1 alone.

    Where fewer than two of these lie among the values, their ends are marked.
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    digits = (1, 2, 5) if high - low < MANY_DECADES else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    marks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    inside = [mark for mark in marks if low - 0.05 <= math.log10(mark) <= high + 0.05]
    return inside if len(inside) > 1 else [float(f"{end:.3g}") for end in (min(values), max(values))]


def quiet() -> warnings.catch_warnings:
    """Turns off Optuna's warnings of its plots that are experimental, or leave trials out."""
    return warnings.catch_warnings(action="ignore")
