"""Draws what only a GAN has: grids of each epoch, nearest training images, losses."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, save_figure
from raysweep.evaluate.figures.images import History, Images, add_axes, show_image


def save_progress(path: Path, grids: Mapping[int, Images], *, title: str, note: str = "") -> None:
    """Saves a strip of grids of images, each under its epoch.

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
        ax = add_axes(fig, column * (side + gap), (num_rows - 1 - row) * (side + head), side, side)
        show_image(ax, grid)
        ax.set_title(f"epoch {epoch}", loc="left", fontsize=9, color=INK, pad=3)
    save_figure(fig, path, title=title, subtitle="the same noise in every epoch", note=note)


def save_nearest(
    path: Path,
    samples: Images,
    groups: Mapping[str, tuple[Images, NDArray[np.floating]]],
    *,
    title: str,
    note: str = "",
) -> None:
    """Saves generated images, each beside the training images that are nearest to it.

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
        ax = add_axes(fig, 0, bottom, 0.94 * cell, cell)
        show_image(ax, sample)
        ax.set_title("generated\n" if row == 0 else "", loc="left", fontsize=8.5, color=INK, pad=2)
        left = cell + gap
        for name, (images, distances) in groups.items():
            for rank in range(images.shape[1]):
                ax = add_axes(fig, left, bottom, 0.94 * cell, cell)
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
    """Saves the losses of generator and discriminator and the Frechet distance over epochs.

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
    losses, distance = (add_axes(fig, column * (width + gap), 0, width, height) for column in range(2))
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
