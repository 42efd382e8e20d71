"""Figures of a classifier: the confusion matrix, and test images with what was predicted."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray

from raysweep.evaluate.figures.canvas import INK, new_figure, save_figure, shorten
from raysweep.evaluate.statistics import check_confusion_matrix

_GREEN, _VERMILION = "#007A5A", "#C24A00"  # Okabe & Ito's bluish green and vermilion, darkened for small text


def save_confusion_matrix(
    path: Path,
    matrix: NDArray[np.int64],
    classes: Sequence[str],
    *,
    title: str,
    note: str = "",
    axes: tuple[str, str] = ("true class", "predicted class"),
) -> None:
    """Saves a confusion matrix, coloured by the share of each true class; counts are shown up to 25 classes.

    Args:
        path: the PNG file to write, atomically.
        matrix: (C, C) int64 counts, rows true, columns predicted.
        classes: the C class names.
        title: above the figure.
        note: a small line at the foot.
        axes: what rows and columns are.

    Raises:
        ValueError: for a matrix that is not (C, C) counts of those classes.
    """
    check_confusion_matrix(matrix, len(classes))
    cell = 1.1 if len(classes) <= 4 else 0.55 if len(classes) <= 25 else 0.19  # inches
    side = cell * len(classes)
    fig = new_figure(side, side)
    ax = fig.add_axes((0, 0, 1, 1))
    num_true = matrix.sum(axis=1, keepdims=True)
    share = np.ma.masked_invalid(matrix / np.where(num_true == 0, np.nan, num_true))
    cmap = mpl.colormaps["Blues"].with_extremes(bad="#DDDDDD")
    # A square root scale: a confusion of 5 % is seen as such beside a diagonal of 90 %.
    image = ax.imshow(share, cmap=cmap, norm=PowerNorm(0.5, 0.0, 1.0), interpolation="nearest")
    if len(classes) <= 25:
        size = 13 if len(classes) <= 4 else 9 if matrix.max() < 1000 else 7.5
        for (i, j), count in np.ndenumerate(matrix):
            colour = "white" if share.filled(0)[i, j] > 0.3 else INK if count else "#8A8A8A"
            ax.text(j, i, f"{count}", ha="center", va="center", color=colour, fontsize=size)
    _label_classes(ax, classes, axes)

    ticks = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
    bar = ax.inset_axes((1 + 0.15 / side, 0, 0.16 / side, 1))
    colorbar = fig.colorbar(image, cax=bar, ticks=ticks)
    label = f"share of the {axes[0]}'s images" + (" (grey: it has none)" if (num_true == 0).any() else "")
    colorbar.set_label(label, fontsize=9, color=INK)
    colorbar.ax.set_yticklabels([f"{100 * tick:.0f} %" for tick in ticks], fontsize=8, color=INK)
    save_figure(fig, path, title=title, note=note)


def _label_classes(ax: Axes, classes: Sequence[str], axes: tuple[str, str]) -> None:
    """Writes the class names on both axes of a matrix, and draws lines between its cells."""
    few = len(classes) <= 25
    names = [shorten(name, 26) for name in classes]
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
    ax.tick_params(which="both", length=0, colors=INK)
    ax.set_xlabel(axes[1], fontsize=10, color=INK, labelpad=8)
    ax.set_ylabel(axes[0], fontsize=10, color=INK, labelpad=8)


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
    """Saves up to 16 images in rows of 4, each with its true class, the predicted one and the confidence.

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
    fig = new_figure(full_width, full_height)
    for i in range(num_images):
        row, column = divmod(i, columns)
        left, bottom = column * (cell_width + gap), full_height - (row + 1) * (cell_height + head)
        ax = fig.add_axes((left / full_width, bottom / full_height, cell_width / full_width, cell_height / full_height))
        ax.imshow(rgb[i], interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        right = true[i] == predicted[i]
        colour, mark = (_GREEN, "\u2713") if right else (_VERMILION, "\u2717")
        ax.spines[:].set(color=colour, linewidth=2, linestyle="-" if right else (0, (3, 1.5)))
        text = f"{mark} {shorten(true[i], 20)}\n→ {shorten(predicted[i], 20)} ({100 * confidence[i]:.0f} %)"
        ax.set_title(text, loc="left", fontsize=8, color=colour, pad=4, parse_math=False)
    subtitle = "\u2713 right, \u2717 wrong (dashed frame): true class → predicted class (confidence)"
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)


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
