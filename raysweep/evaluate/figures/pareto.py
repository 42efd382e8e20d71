"""The trials of a study by two objectives, with the Pareto front."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from raysweep.config import Objective
from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, save_figure

LOG_RATIO = 20
"""The second objective is drawn logarithmically where its largest value is so many times the smallest."""
MAX_LABELS = 15
"""Trials of a longer front are not numbered, the ends excepted."""

Values = tuple[float, float]


def save_pareto_front(
    path: Path,
    trials: Mapping[int, Values],
    front: Sequence[int],
    *,
    first: Objective,
    second: Objective,
    baseline: int,
    title: str,
    note: str = "",
) -> None:
    """Saves the trials as dots, the second objective to the right and the first upwards, with their front as stairs.

    Trials that lie far below the front would squeeze it: they are drawn at the edge.

    Args:
        path: the PNG file to write, atomically.
        trials: number of a complete trial -> its values by the first and the second objective.
        front: numbers of the trials that none beats, sorted by the first objective; at least 1.
        first: the first objective.
        second: the second objective.
        baseline: number of the baseline, which is marked where it is among the trials.
        title: above the figure.
        note: a small line at the foot.

    Raises:
        ValueError: for an empty front, or one with a trial that is not among the trials.
    """
    if not front or not set(front) <= set(trials):
        raise ValueError(f"the front must be trials of {sorted(trials)}, at least 1, got {list(front)}")
    fig = new_figure(7.2, 4.6)
    ax: Axes = fig.add_subplot()
    low, high = _drawn_range(trials, front, baseline, first)
    points = {number: (x, min(max(y, low), high)) for number, (y, x) in trials.items()}
    far = {number for number, (y, _) in trials.items() if not low <= y <= high}
    seconds = [x for x, _ in points.values()]
    if min(seconds) > 0 and max(seconds) >= LOG_RATIO * min(seconds):
        ax.set_xscale("log")
    _draw_stairs(ax, [points[number] for number in front], second)
    grey = {"s": 26, "color": GREY, "alpha": 0.5, "linewidths": 0}
    _draw_dots(ax, [points[number] for number in points.keys() - far - set(front)], **grey)
    _draw_dots(ax, [points[number] for number in far], marker="v" if first.direction == "maximize" else "^", **grey)
    _draw_dots(ax, [points[number] for number in front], s=52, color=COLOURS[0], edgecolors="white", zorder=4)
    if baseline in points:
        _draw_dots(ax, [points[baseline]], s=150, facecolors="none", edgecolors=COLOURS[1], linewidths=1.8, zorder=5)
    _number_front(ax, points, front, first, second)
    _style(ax, first, second)
    parts = ["blue: the Pareto front", "grey: the other complete trials"]
    parts += [f"triangles: far {'below' if first.direction == 'maximize' else 'above'}"] if far else []
    parts += ["ringed: the baseline"] if baseline in points else []
    save_figure(fig, path, title=title, subtitle="; ".join(parts), note=note)


def _drawn_range(
    trials: Mapping[int, Values], front: Sequence[int], baseline: int, first: Objective
) -> tuple[float, float]:
    """Returns the range of the first objective that is drawn: of the front and the baseline, and half as much again."""
    values = [values[0] for number, values in trials.items() if number in front or number == baseline]
    room = 0.5 * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
    if first.direction == "maximize":
        return min(values) - room, math.inf
    return -math.inf, max(values) + room


def _draw_dots(ax: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    if points:
        ax.scatter(*zip(*points, strict=True), clip_on=False, **style)


def _draw_stairs(ax: Axes, points: Sequence[tuple[float, float]], second: Objective) -> None:
    """Draws the border between what the front beats and what it does not."""
    xs, ys = zip(*sorted(points), strict=True)
    where: Literal["post", "pre"] = "post" if second.direction == "minimize" else "pre"
    ax.step(xs, ys, where=where, color=COLOURS[0], linewidth=1.2, alpha=0.6)


def _number_front(
    ax: Axes, points: Mapping[int, tuple[float, float]], front: Sequence[int], first: Objective, second: Objective
) -> None:
    """Writes the numbers of the front's trials on its better side, where nothing is; equal trials share a text."""
    to_right, up = second.direction == "maximize", first.direction == "maximize"
    numbers: dict[tuple[float, float], list[str]] = {}
    for number in front if len(front) <= MAX_LABELS else (front[0], front[-1]):
        numbers.setdefault(points[number], []).append(str(number))
    for point, texts in numbers.items():
        ax.annotate(
            ", ".join(texts),
            point,
            (6 if to_right else -6, 6 if up else -6),
            textcoords="offset points",
            ha="left" if to_right else "right",
            va="bottom" if up else "top",
            fontsize=8.5,
            color=INK,
        )


def _style(ax: Axes, first: Objective, second: Objective) -> None:
    for axis, objective in ((ax.xaxis, second), (ax.yaxis, first)):
        better = "more" if objective.direction == "maximize" else "less"
        axis.set_label_text(f"{objective.metric} ({better} is better)", fontsize=9, color=INK, parse_math=False)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.margins(0.08)
    ax.tick_params(labelsize=8.5, colors=INK)
    ax.grid(color="#E5E5E5", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
