"""Draws images: square grids, rows with names, and bars for each class."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, save_figure, shorten

History = Sequence[Mapping[str, float]]
Images = NDArray[np.uint8]


def save_samples(path: Path, samples: Mapping[str, Images], *, title: str, note: str = "") -> None:
    """Saves square grids of images, one for each name, side by side.

    Args:
        path: the PNG file to write, atomically.
        samples: what is above a grid -> its images, (N, H, W, C) uint8, N a square number, C 1 or 3.
        title: above the figure.
        note: a small line at the foot.
    """
    side, gap = 3.4, 0.3  # inches
    fig = new_figure(len(samples) * (side + gap) - gap, side)
    for column, (name, images) in enumerate(samples.items()):
        ax = add_axes(fig, column * (side + gap), 0, side, side)
        show_image(ax, tile(images))
        ax.set_title(name, loc="left", fontsize=10, color=INK, parse_math=False)
    save_figure(fig, path, title=title, note=note)


def save_rows(
    path: Path, images: Images, *, names: Sequence[str] = (), title: str, subtitle: str = "", note: str = ""
) -> None:
    """Saves rows of images: steps from one point of a code to another, or what was made of the images above.

    Args:
        path: the PNG file to write, atomically.
        images: (R, K, H, W, C) uint8, R rows of K images, C 1 or 3.
        names: what is beside each row, R of them; none: nothing.
        title: above the figure.
        subtitle: what rows and columns are.
        note: a small line at the foot.
    """
    num_rows, num_columns, height, width, channels = images.shape
    cell = 0.7  # inches
    fig = new_figure(num_columns * cell, num_rows * cell)
    ax = add_axes(fig, 0, 0, num_columns * cell, num_rows * cell)
    rows = images.transpose(0, 2, 1, 3, 4).reshape(num_rows * height, num_columns * width, channels)
    show_image(ax, rows)
    if names:
        ticks = (np.arange(num_rows) + 0.5) * height - 0.5
        ax.set_yticks(ticks, [shorten(name, 40) for name in names], fontsize=9, color=INK, parse_math=False)
        ax.tick_params(length=0)
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)


def save_class_bars(
    path: Path,
    values: Mapping[str, NDArray[np.floating]],
    classes: Sequence[str],
    *,
    label: str,
    line: tuple[str, float] | None = None,
    title: str,
    note: str = "",
) -> None:
    """Saves a value of each class, a bar for each name.

    Args:
        path: the PNG file to write, atomically.
        values: whose they are -> (C,) values; up to 7.
        classes: the C class names.
        label: what the values are, with their unit.
        line: name and height of a horizontal line; none: no line.
        title: above the figure.
        note: a small line at the foot.
    """
    width = max(5.5, 0.62 * len(classes))
    fig = new_figure(width, 3.0)
    ax = add_axes(fig, 0, 0, width, 3.0)
    bar = 0.8 / len(values)
    for index, (colour, (name, heights)) in enumerate(zip(COLOURS, values.items(), strict=False)):
        places = np.arange(len(classes)) + (index - (len(values) - 1) / 2) * bar
        ax.bar(places, heights, bar * 0.92, color=colour, label=name)
    lines = [ax.axhline(line[1], color=GREY, linewidth=1, linestyle=":", label=line[0])] if line else []
    names = [shorten(name, 20) for name in classes]
    upright = max(map(len, names)) <= 2  # digits
    rotation: dict[str, Any] = {} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(names)), names, fontsize=9, parse_math=False, **rotation)
    ax.set_ylabel(label, fontsize=9, color=INK)
    ax.tick_params(labelsize=9, colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": 4}
    ax.legend(handles=[*ax.containers, *lines], fontsize=8.5, frameon=False, **place)
    save_figure(fig, path, title=title, note=note)


def tile(images: Images) -> Images:
    """Tiles images (N, H, W, C), N a square number, to one image (sqrt(N) H, sqrt(N) W, C)."""
    side = math.isqrt(len(images))
    _, height, width, channels = images.shape
    grid = images.reshape(side, side, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(side * height, side * width, channels)


def show_image(ax: Axes, image: Images) -> None:
    """Draws an image (H, W, C) uint8, C 1 (grey) or 3 (RGB), without axes."""
    ax.imshow(np.repeat(image, 3 // image.shape[-1], axis=-1), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def add_axes(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Adds axes at a place of the figure in inches."""
    full_width, full_height = fig.get_size_inches()
    return fig.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))
