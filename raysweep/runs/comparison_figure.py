"""Draws runs beside each other: their test figures with intervals, and the differences to the first one."""

from pathlib import Path

from matplotlib.axes import Axes

from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, save_figure, shorten
from raysweep.runs.comparison import Comparison

MAX_NAME = 40
"""Letters of a run's name."""


def save_comparison(path: Path, comparison: Comparison) -> None:
    """Saves the test figures of runs, a row each; beside them, where images are known one by one, the differences.

    path: the PNG file to write, atomically.
    """
    is_paired = any(run.against_first for run in comparison.runs)
    fig = new_figure(9.5 if is_paired else 6.0, 1.0 + 0.5 * len(comparison.runs))
    fig.set_layout_engine("constrained")
    axes: list[Axes] = list(fig.subplots(1, 1 + is_paired, sharey=True, squeeze=False).flat)
    _draw_values(axes[0], comparison)
    if is_paired:
        _draw_differences(axes[1], comparison)
    names = [shorten(run.name, MAX_NAME) for run in comparison.runs]
    axes[0].set_yticks(range(len(names)), names, fontsize=9, color=INK, parse_math=False)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    better = "right" if comparison.direction == "maximize" else "left"
    fig.draw_without_rendering()  # lays out the panels
    fig.set_layout_engine("none")
    subtitle = f"dots: the best model with its 95 % interval; rings: its baseline; further {better} is better"
    note = "synthetic data: drawn by raysweep, not photographs" if comparison.synthetic else ""
    title = f"{comparison.num_images} test images of {comparison.data_source}"
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)


def _draw_values(ax: Axes, comparison: Comparison) -> None:
    for row, run in enumerate(comparison.runs):
        if run.low is not None and run.high is not None:
            ax.plot([run.low, run.high], [row, row], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
        ax.plot(run.test_value, row, "o", color=COLOURS[0], markersize=7)
        if run.baseline_value is not None:
            ax.plot(run.baseline_value, row, "o", color=COLOURS[1], markerfacecolor="none", markersize=8, zorder=3)
    _style(ax, f"test {comparison.metric}")


def _draw_differences(ax: Axes, comparison: Comparison) -> None:
    ax.axvline(0, color=GREY, linewidth=1)
    for row, run in enumerate(comparison.runs):
        lift = run.against_first
        if lift is None:
            continue
        colour = GREY if lift.includes_zero else COLOURS[2]
        ax.plot([lift.low, lift.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot(lift.difference, row, "o", color=colour, markersize=7)
    _style(ax, f"difference to {shorten(comparison.runs[0].name, MAX_NAME)} (grey: none is shown)")


def _style(ax: Axes, label: str) -> None:
    ax.set_xlabel(label, fontsize=9, color=INK, parse_math=False)
    ax.tick_params(labelsize=8.5, colors=INK)
    ax.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.margins(x=0.08)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
