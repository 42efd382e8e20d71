"""Figures of one run, saved as PNG: confusion matrix, predictions, and curves of training.

Only matplotlib's object API is used: no pyplot, no state shared between figures, no display. Titles and notes
are placed around what was drawn and the canvas is grown to fit; class names are shortened in the middle where
they are very long, never clipped.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from raysweep.evaluate.statistics import check_confusion_matrix
from raysweep.files import write_atomically

_DPI = 130
_INK, _GREY = "#222222", "#666666"
_GREEN, _VERMILION = "#007A5A", "#C24A00"  # Okabe & Ito's bluish green and vermilion, darkened for small text
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito
_MARKERS = "osD^vPX"
_LOSSES = ("train/loss", "val/loss")

History = Sequence[Mapping[str, float]]


def save_confusion_matrix(
    path: Path, matrix: NDArray[np.int64], classes: Sequence[str], *, title: str, note: str = ""
) -> None:
    """Save a confusion matrix, coloured by the share of each true class; counts are shown up to 25 classes.

    Args:
        path: the PNG file to write, atomically.
        matrix: (C, C) int64 counts, rows true, columns predicted.
        classes: the C class names.
        title: above the figure.
        note: a small line at the foot.

    Raises:
        ValueError: for a matrix that is not (C, C) counts of those classes.
    """
    check_confusion_matrix(matrix, len(classes))
    cell = 1.1 if len(classes) <= 4 else 0.55 if len(classes) <= 25 else 0.19  # inches
    side = cell * len(classes)
    fig = _new_figure(side, side)
    ax = fig.add_axes((0, 0, 1, 1))
    num_true = matrix.sum(axis=1, keepdims=True)
    share = np.ma.masked_invalid(matrix / np.where(num_true == 0, np.nan, num_true))
    cmap = mpl.colormaps["Blues"].with_extremes(bad="#DDDDDD")
    # A square root scale: a confusion of 5 % is seen as such beside a diagonal of 90 %.
    image = ax.imshow(share, cmap=cmap, norm=PowerNorm(0.5, 0.0, 1.0), interpolation="nearest")
    if len(classes) <= 25:
        size = 13 if len(classes) <= 4 else 9 if matrix.max() < 1000 else 7.5
        for (i, j), count in np.ndenumerate(matrix):
            colour = "white" if share.filled(0)[i, j] > 0.3 else _INK if count else "#8A8A8A"
            ax.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=size)
    _label_classes(ax, classes)

    ticks = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
    bar = ax.inset_axes((1 + 0.15 / side, 0, 0.16 / side, 1))
    colorbar = fig.colorbar(image, cax=bar, ticks=ticks)
    label = "share of the true class's images" + (" (grey: it has none)" if (num_true == 0).any() else "")
    colorbar.set_label(label, fontsize=9, color=_INK)
    colorbar.ax.set_yticklabels([f"{100 * tick:.0f} %" for tick in ticks], fontsize=8, color=_INK)
    _save(fig, path, title=title, note=note)


def _label_classes(ax: Axes, classes: Sequence[str]) -> None:
    """Write the class names on both axes of a matrix, and draw lines between its cells."""
    few = len(classes) <= 25
    names = [_shorten(name, 26) for name in classes]
    rotation: dict[str, Any] = {"rotation": 90}
    if few:
        rotation = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    if few and max(map(len, names)) <= 2:  # digits
        rotation = {}
    size = 9 if few else 7.5
    ax.set_xticks(range(len(names)), names, fontsize=size, parse_math=False, **rotation)
    ax.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    edges = np.arange(len(names) + 1) - 0.5
    ax.set_xticks(edges, minor=True)
    ax.set_yticks(edges, minor=True)
    ax.grid(which="minor", color="white" if few else "#EEEEEE", linewidth=1 if few else 0.3)
    ax.tick_params(which="both", length=0, colors=_INK)
    ax.set_xlabel("predicted class", fontsize=10, color=_INK, labelpad=8)
    ax.set_ylabel("true class", fontsize=10, color=_INK, labelpad=8)


def save_predictions(
    path: Path,
    images: NDArray[np.uint8],
    true: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
    *,
    title: str,
    note: str = "",
) -> None:
    """Save up to 16 images in rows of 4, each with its true class, the predicted one and the confidence.

    Args:
        path: the PNG file to write, atomically.
        images: (N, H, W, C) uint8, 1 <= N <= 16, C 1 (grey) or 3 (RGB).
        true: N class names.
        predicted: N class names; right where equal to `true`.
        confidence: N probabilities in [0, 1] of the predicted class.
        title: above the figure.
        note: a small line at the foot.

    Raises:
        ValueError: for images of another shape or dtype, sequences of another length, or a confidence
            outside [0, 1].
    """
    _check_predictions(images, true, predicted, confidence)
    num_images, height, width, num_channels = images.shape
    rgb = np.repeat(images, 3 // num_channels, axis=3)
    cell_width, gap, head = 1.95, 0.25, 0.5  # inches
    cell_height = cell_width * min(max(height / width, 0.3), 2.0)
    columns = min(4, num_images)
    full_width = columns * (cell_width + gap) - gap
    full_height = math.ceil(num_images / columns) * (cell_height + head)
    fig = _new_figure(full_width, full_height)
    for i in range(num_images):
        row, column = divmod(i, columns)
        left, bottom = column * (cell_width + gap), full_height - (row + 1) * (cell_height + head)
        ax = fig.add_axes((left / full_width, bottom / full_height, cell_width / full_width, cell_height / full_height))
        ax.imshow(rgb[i], interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        right = true[i] == predicted[i]
        colour, mark = (_GREEN, "\u2713") if right else (_VERMILION, "\u2717")
        ax.spines[:].set(color=colour, linewidth=2, linestyle="-" if right else (0, (3, 1.5)))
        text = f"{mark} {_shorten(true[i], 20)}\n→ {_shorten(predicted[i], 20)} ({100 * confidence[i]:.0f} %)"
        ax.set_title(text, loc="left", fontsize=8, color=colour, pad=4, parse_math=False)
    subtitle = "\u2713 right, \u2717 wrong (dashed frame): true class → predicted class (confidence)"
    _save(fig, path, title=title, subtitle=subtitle, note=note)


def _check_predictions(
    images: NDArray[np.uint8], true: Sequence[str], predicted: Sequence[str], confidence: Sequence[float]
) -> None:
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            "images must be (N, H, W, C) uint8 with C 1 or 3 and no empty axis, got shape "
            f"{images.shape} and dtype {images.dtype}; pass them as decoded, before normalisation"
        )
    if len(images) > 16:
        raise ValueError(f"the figure holds up to 16 images, got {len(images)}; choose 16 of them")
    lengths = (len(true), len(predicted), len(confidence))
    if lengths != (len(images),) * 3:
        raise ValueError(
            f"true, predicted and confidence must have one value per image, got {lengths} values for "
            f"{len(images)} images; take the same rows of each"
        )
    if not all(0.0 <= value <= 1.0 for value in confidence):
        raise ValueError(
            f"confidence must lie in [0, 1], got {list(confidence)}; pass the softmax of the predicted class"
        )


def save_curves(
    path: Path,
    histories: Mapping[str, History],
    *,
    metrics: Sequence[str],
    title: str,
    note: str = "",
    direction: Literal["maximize", "minimize"] = "maximize",
) -> None:
    """Save the losses and metrics of some trials over epochs, with each trial's best epoch marked.

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
    fig = _new_figure(4.3 * columns, 3.1 * rows)
    fig.set_layout_engine("constrained")
    axes: list[Axes] = list(fig.subplots(rows, columns, squeeze=False).flat)
    handles = []
    for (name, history), colour, marker in zip(trials.items(), _COLOURS, _MARKERS, strict=False):
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
    _put_legend(fig, handles)
    extreme = "highest" if direction == "maximize" else "lowest"
    subtitle = f"dashed: train, solid: validation, large outlined marker: epoch of the {extreme} {metrics[0]}"
    _save(fig, path, title=title, subtitle=subtitle, note=note)


def _check_histories(histories: Mapping[str, History], metrics: Sequence[str]) -> None:
    if not 1 <= len(histories) <= len(_COLOURS):
        raise ValueError(
            f"the figure holds 1 to {len(_COLOURS)} histories, got {len(histories)}; choose among the trials"
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
    """Return the histories by name, those with the same rows under one joint name."""
    names: dict[str, list[str]] = {}
    for name, history in histories.items():
        # repr, because NaN is not equal to itself.
        key = repr([sorted((metric, float(value)) for metric, value in row.items()) for row in history])
        names.setdefault(key, []).append(name)
    return {" = ".join(same): histories[same[0]] for same in names.values()}


def _best_row(history: History, metric: str, direction: str) -> Mapping[str, float] | None:
    """Return the row with the best finite value, the first of equals; None where there is none."""
    rows = [row for row in history if math.isfinite(row.get(metric, math.nan))]
    sign = 1.0 if direction == "minimize" else -1.0
    return min(rows, key=lambda row: sign * row[metric], default=None)


def _draw_history(
    ax: Axes, history: History, panel: str, best: Mapping[str, float] | None, *, color: str, marker: str
) -> None:
    """Draw one trial in one panel: train dashed, validation solid, and the best epoch outlined."""
    epochs = [row["epoch"] for row in history]
    size = 4 if len(history) <= 30 else 0
    for metric, style, fill in ((f"train/{panel.split('/', 1)[-1]}", "--", "white"), (panel, "-", color)):
        values = [row.get(metric, math.nan) for row in history]
        finite = [value if math.isfinite(value) else math.nan for value in values]
        ax.plot(epochs, finite, style, color=color, marker=marker, markersize=size, markerfacecolor=fill)
    if best is not None and math.isfinite(best.get(panel, math.nan)):
        (mark,) = ax.plot(best["epoch"], best[panel], marker, color=color, markersize=10, zorder=5, clip_on=False)
        mark.set(markeredgecolor=_INK, markeredgewidth=1.5)


def _style_panel(ax: Axes, title: str, first_epoch: float, last_epoch: float) -> None:
    ax.set_title(title, loc="left", fontsize=11, color=_INK, parse_math=False)
    ax.set_xlabel("epoch", fontsize=9, color=_INK)
    ax.set_xlim(first_epoch - 0.5, last_epoch + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.tick_params(labelsize=8.5, colors=_INK)
    ax.grid(color="#E5E5E5", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if not any(np.isfinite(line.get_ydata()).any() for line in ax.lines):
        ax.text(0.5, 0.5, "no finite value", transform=ax.transAxes, ha="center", color=_GREY)


def _new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, bound to the Agg canvas."""
    fig = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(fig)
    return fig


def _shorten(name: str, most: int) -> str:
    """Return the name with its middle left out where it is longer than `most` characters."""
    tail = most * 2 // 5
    return name if len(name) <= most else f"{name[: most - tail - 1]}…{name[-tail:]}"


def _save(fig: Figure, path: Path, *, title: str, subtitle: str = "", note: str = "") -> None:
    """Put the texts around what was drawn, and write the PNG atomically, grown to hold all of it."""
    _put_text(fig, subtitle, above=True, fontsize=9, color=_GREY)
    _put_text(fig, title, above=True, fontsize=13, color=_INK, fontweight="bold")
    _put_text(fig, note, above=False, fontsize=8, color=_GREY)

    def write(temporary: Path) -> None:
        fig.savefig(temporary, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.15)

    write_atomically(path, write)


def _put_text(fig: Figure, text: str, *, above: bool, fontsize: float, **style: Any) -> None:
    """Add a paragraph above or below all that is drawn so far, wrapped to its width."""
    if not text:
        return
    box = _drawn_box(fig)
    characters = int(max(box.width * fig.get_figwidth(), 3.5) * 72 / (0.58 * fontsize))
    wrapped = "\n".join(textwrap.wrap(text, characters, break_on_hyphens=False))
    gap = 0.12 / fig.get_figheight()
    y, va = (box.y1 + gap, "bottom") if above else (box.y0 - gap, "top")
    fig.text(box.x0, y, wrapped, va=va, fontsize=fontsize, parse_math=False, **style)


def _put_legend(fig: Figure, handles: Sequence[Line2D]) -> None:
    """Add a legend below all that is drawn so far, one line each."""
    fig.draw_without_rendering()  # lays out the panels
    fig.set_layout_engine("none")  # else the next draw makes room for the legend inside the figure
    box = _drawn_box(fig)
    corner = (box.x0, box.y0 - 0.12 / fig.get_figheight())
    legend = fig.legend(
        handles=handles, loc="upper left", bbox_to_anchor=corner, borderaxespad=0, borderpad=0, frameon=False
    )
    for text in legend.get_texts():
        text.set(color=_INK, fontsize=9, parse_math=False)


def _drawn_box(fig: Figure) -> Bbox:
    """Return the box around all that is drawn so far, in units of the figure; it may reach beyond [0, 1]."""
    inches = fig.get_tightbbox()
    width, height = fig.get_size_inches()
    return Bbox.from_extents(inches.x0 / width, inches.y0 / height, inches.x1 / width, inches.y1 / height)
