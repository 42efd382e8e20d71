"""Losses and metrics of some trials over epochs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, put_legend, save_figure

_MARKERS = "osD^vPX"
_LOSSES = ("train/loss", "val/loss")

History = Sequence[Mapping[str, float]]


def save_curves(
    path: Path,
    histories: Mapping[str, History],
    *,
    metrics: Sequence[str],
    title: str,
    note: str = "",
    direction: Literal["maximize", "minimize"] = "maximize",
) -> None:
    """Saves the losses and metrics of some trials over epochs, with each trial's best epoch marked.

    Training is dashed and validation solid. A trial's best epoch is by `metrics[0]`. Trials whose histories
    are equal are drawn once, under both names.

    Args:
        path: the PNG file to write, atomically.
        histories: name of a trial -> one row per epoch with "epoch" and `split/name` values; up to 7 trials.
        metrics: the panels beside the losses, such as "val/accuracy"; the first is what the study optimizes.
        title: above the figure.
        note: a small line at the foot.
        direction: whether the best epoch has the highest or the lowest `metrics[0]`.

    Raises:
        ValueError: for no or too many histories, an empty one, a row without "epoch", or a metric that no
            history has.
    """
    _check_histories(histories, metrics)
    panels = list(dict.fromkeys(["val/loss", *(metric for metric in metrics if metric not in _LOSSES)]))
    trials = _merge_equal(histories)
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    fig = new_figure(4.3 * columns, 3.1 * rows)
    fig.set_layout_engine("constrained")
    axes: list[Axes] = list(fig.subplots(rows, columns, squeeze=False).flat)
    handles = []
    for (name, history), colour, marker in zip(trials.items(), COLOURS, _MARKERS, strict=False):
        best = _best_row(history, metrics[0], direction)
        for ax, panel in zip(axes, panels, strict=False):
            _draw_history(ax, history, panel, best, color=colour, marker=marker)
        label = name if best is None else f"{name}: best epoch {best['epoch']:g}"
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, label=label))
    epochs = [row["epoch"] for history in trials.values() for row in history]
    for ax, panel in zip(axes, panels, strict=False):
        _style_panel(ax, "loss" if panel == "val/loss" else panel, min(epochs), max(epochs))
    for ax in axes[len(panels) :]:
        ax.remove()
    put_legend(fig, handles)
    extreme = "highest" if direction == "maximize" else "lowest"
    subtitle = f"dashed: train, solid: validation, large outlined marker: epoch of the {extreme} {metrics[0]}"
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)


def _check_histories(histories: Mapping[str, History], metrics: Sequence[str]) -> None:
    if not 1 <= len(histories) <= len(COLOURS):
        raise ValueError(
            f"the figure holds 1 to {len(COLOURS)} histories, got {len(histories)}; choose among the trials"
        )
    if not metrics:
        raise ValueError("metrics must name at least 1 metric, got none; pass the one the study optimizes")
    for name, history in histories.items():
        if not history or not all("epoch" in row for row in history):
            raise ValueError(
                f'a history must have at least 1 row, each with "epoch", got {list(history)} for {name!r}; '
                "leave out trials that finished no epoch"
            )
    known = {key for history in histories.values() for row in history for key in row} - {"epoch"}
    missing = [metric for metric in metrics if metric not in known]
    if known.isdisjoint(_LOSSES):
        missing.append(" or ".join(_LOSSES))
    if missing:
        raise ValueError(
            f"a metric must be in some history, got {', '.join(missing)}; "
            f"those there are: {', '.join(sorted(known)) or 'none'}"
        )


def _merge_equal(histories: Mapping[str, History]) -> dict[str, History]:
    """Returns the histories by name, those with the same rows under one joint name."""
    names: dict[str, list[str]] = {}
    for name, history in histories.items():
        # repr, because NaN is not equal to itself.
        key = repr([sorted((metric, float(value)) for metric, value in row.items()) for row in history])
        names.setdefault(key, []).append(name)
    return {" = ".join(same): histories[same[0]] for same in names.values()}


def _best_row(history: History, metric: str, direction: str) -> Mapping[str, float] | None:
    """Returns the row with the best finite value, the first of equals; None where there is none."""
    rows = [row for row in history if math.isfinite(row.get(metric, math.nan))]
    sign = 1.0 if direction == "minimize" else -1.0
    return min(rows, key=lambda row: sign * row[metric], default=None)


def _draw_history(
    ax: Axes, history: History, panel: str, best: Mapping[str, float] | None, *, color: str, marker: str
) -> None:
    """Draws one trial in one panel: train dashed, validation solid, and the best epoch outlined."""
    epochs = [row["epoch"] for row in history]
    size = 4 if len(history) <= 30 else 0
    for metric, style, fill in ((f"train/{panel.split('/', 1)[-1]}", "--", "white"), (panel, "-", color)):
        values = [row.get(metric, math.nan) for row in history]
        finite = [value if math.isfinite(value) else math.nan for value in values]
        ax.plot(epochs, finite, style, color=color, marker=marker, markersize=size, markerfacecolor=fill)
    if best is not None and math.isfinite(best.get(panel, math.nan)):
        (mark,) = ax.plot(best["epoch"], best[panel], marker, color=color, markersize=10, zorder=5, clip_on=False)
        mark.set(markeredgecolor=INK, markeredgewidth=1.5)


def _style_panel(ax: Axes, title: str, first_epoch: float, last_epoch: float) -> None:
    ax.set_title(title, loc="left", fontsize=11, color=INK, parse_math=False)
    ax.set_xlabel("epoch", fontsize=9, color=INK)
    ax.set_xlim(first_epoch - 0.5, last_epoch + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.tick_params(labelsize=8.5, colors=INK)
    ax.grid(color="#E5E5E5", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if not any(np.isfinite(line.get_ydata()).any() for line in ax.lines):
        ax.text(0.5, 0.5, "no finite value", transform=ax.transAxes, ha="center", color=GREY)
