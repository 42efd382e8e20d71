"""Figures of generated images: samples, progress, rows of steps, nearest training images, losses, classes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, save_figure, shorten

History = Sequence[Mapping[str, float]]
Images = NDArray[np.uint8]


def save_samples(path: Path, samples: Mapping[str, Images], *, title: str, note: str = "") -> None:
    """Save square grids of images, one for each name, side by side.

    Args:
        path: the PNG file to write, atomically.
        samples: what is above a grid -> its images, (N, H, W, C) uint8, N a square number, C 1 or 3.
        title: above the figure.
        note: a small line at the foot.
    """
    side, gap = 3.4, 0.3  # inches
    fig = new_figure(len(samples) * (side + gap) - gap, side)
    for column, (name, images) in enumerate(samples.items()):
        ax = _add_axes(fig, column * (side + gap), 0, side, side)
        show_image(ax, tile(images))
        ax.set_title(name, loc="left", fontsize=10, color=INK, parse_math=False)
    save_figure(fig, path, title=title, note=note)


def save_progress(path: Path, grids: Mapping[int, Images], *, title: str, note: str = "") -> None:
    """Save a strip of grids of images, each under its epoch.

    Args:
        path: the PNG file to write, atomically.
        grids: epoch -> its grid as one image, (H, W, C) uint8, C 1 or 3; in rows of 4.
        title: above the figure.
        note: a small line at the foot.
    """
    side, gap, head, columns = 2.1, 0.12, 0.3, 4  # inches
    num_rows = math.ceil(len(grids) / columns)
    fig = new_figure(min(columns, len(grids)) * (side + gap) - gap, num_rows * (side + head))
    for index, (epoch, grid) in enumerate(grids.items()):
        row, column = divmod(index, columns)
        ax = _add_axes(fig, column * (side + gap), (num_rows - 1 - row) * (side + head), side, side)
        show_image(ax, grid)
        ax.set_title(f"epoch {epoch}", loc="left", fontsize=9, color=INK, pad=3)
    save_figure(fig, path, title=title, subtitle="the same noise in every epoch", note=note)


def save_rows(
    path: Path, images: Images, *, names: Sequence[str] = (), title: str, subtitle: str = "", note: str = ""
) -> None:
    """Save rows of images: steps from one point of a code to another, or what was made of the images above.

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
    ax = _add_axes(fig, 0, 0, num_columns * cell, num_rows * cell)
    rows = images.transpose(0, 2, 1, 3, 4).reshape(num_rows * height, num_columns * width, channels)
    show_image(ax, rows)
    if names:
        ticks = (np.arange(num_rows) + 0.5) * height - 0.5
        ax.set_yticks(ticks, [shorten(name, 40) for name in names], fontsize=9, color=INK, parse_math=False)
        ax.tick_params(length=0)
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)


def save_nearest(
    path: Path,
    samples: Images,
    groups: Mapping[str, tuple[Images, NDArray[np.floating]]],
    *,
    title: str,
    note: str = "",
) -> None:
    """Save generated images, each beside the training images that are nearest to it.

    Args:
        path: the PNG file to write, atomically.
        samples: (N, H, W, C) uint8, C 1 or 3.
        groups: in what space they are nearest -> the images, (N, K, H, W, C) uint8, and their distances (N, K).
        title: above the figure.
        note: a small line at the foot.
    """
    cell, gap, head = 0.78, 0.3, 0.2  # inches
    num_columns = 1 + sum(images.shape[1] for images, _ in groups.values())
    height = len(samples) * (cell + head)
    fig = new_figure(num_columns * cell + len(groups) * gap, height)
    for row, sample in enumerate(samples):
        bottom = height - (row + 1) * (cell + head)
        ax = _add_axes(fig, 0, bottom, 0.94 * cell, cell)
        show_image(ax, sample)
        ax.set_title("generated\n" if row == 0 else "", loc="left", fontsize=8.5, color=INK, pad=2)
        left = cell + gap
        for name, (images, distances) in groups.items():
            for rank in range(images.shape[1]):
                ax = _add_axes(fig, left, bottom, 0.94 * cell, cell)
                show_image(ax, images[row, rank])
                text = f"{distances[row, rank]:.2f}"
                if row == 0:
                    text = f"{name}\n{text}" if rank == 0 else f"\n{text}"
                ax.set_title(text, loc="left", fontsize=8.5, color=INK, pad=2)
                left += cell
            left += gap
    subtitle = "nearest training images first, with their distances; a copy would be at 0"
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)


def save_losses(
    path: Path, histories: Mapping[str, History], *, floor: float, floor_label: str, title: str, note: str = ""
) -> None:
    """Save the losses of generator and discriminator and the Frechet distance over epochs.

    Args:
        path: the PNG file to write, atomically.
        histories: name of a trial -> one row per epoch with "epoch", "train/loss_generator",
            "train/loss_discriminator" and "val/frechet_distance"; up to 7 trials.
        floor: the Frechet distance of real images, drawn as a line.
        floor_label: which real images.
        title: above the figure.
        note: a small line at the foot.
    """
    width, height, gap = 5.2, 3.2, 0.8  # inches
    fig = new_figure(2 * width + gap, height)
    losses, distance = (_add_axes(fig, column * (width + gap), 0, width, height) for column in range(2))
    merged: dict[str, History] = {}
    for name, history in histories.items():
        same = next((other for other, rows in merged.items() if list(rows) == list(history)), None)
        merged[f"{same} = {name}" if same else name] = merged.pop(same) if same else history
    for colour, (name, history) in zip(COLOURS, merged.items(), strict=False):
        epochs = [row["epoch"] for row in history]
        marker = "o" if len(history) <= 30 else ""
        for network, style in (("generator", "-"), ("discriminator", "--")):
            values = [row[f"train/loss_{network}"] for row in history]
            losses.plot(epochs, values, style, color=colour, marker=marker, markersize=4, label=f"{network}, {name}")
        values = [row["val/frechet_distance"] for row in history]
        distance.plot(epochs, values, "-", color=colour, marker=marker, markersize=4, label=name)
    distance.axhline(floor, color=GREY, linewidth=1, linestyle=":", label=f"{floor_label}: {floor:.2f}")
    distance.set_yscale("log")
    for ax, text in ((losses, "training losses"), (distance, "Frechet distance, validation images")):
        ax.set_title(text, loc="left", fontsize=11, color=INK)
        ax.set_xlabel("epoch", fontsize=9, color=INK)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        ax.tick_params(which="both", labelsize=8.5, colors=INK)
        ax.grid(color="#E5E5E5", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.16), borderaxespad=0)
    save_figure(fig, path, title=title, note=note)


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
    """Save a value of each class, a bar for each name.

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
    ax = _add_axes(fig, 0, 0, width, 3.0)
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
    """Images (N, H, W, C), N a square number, as one image (sqrt(N) H, sqrt(N) W, C)."""
    side = math.isqrt(len(images))
    _, height, width, channels = images.shape
    grid = images.reshape(side, side, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(side * height, side * width, channels)


def show_image(ax: Axes, image: Images) -> None:
    """Draw an image (H, W, C) uint8, C 1 (grey) or 3 (RGB), without axes."""
    ax.imshow(np.repeat(image, 3 // image.shape[-1], axis=-1), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _add_axes(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place of the figure in inches."""
    full_width, full_height = fig.get_size_inches()
    return fig.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))
