"""Figures of an autoencoder's code: the map of all test images, and the error of each size."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, save_figure, shorten


def save_latent_map(
    path: Path,
    points: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    explained: tuple[float, float],
    title: str,
    note: str = "",
) -> None:
    """Saves the codes of images in a plane, coloured by class.

    Args:
        path: the PNG file to write, atomically.
        points: (N, 2) scores on the first two principal components of the code.
        labels: (N,) class numbers.
        classes: the class names; up to 20 have a colour of their own.
        explained: shares of the code's variance along either component, in [0, 1].
        title: above the figure.
        note: a small line at the foot.
    """
    fig = new_figure(7.0, 5.6)
    ax = fig.add_axes((0, 0, 1, 1))
    colours = mpl.colormaps["tab10" if len(classes) <= 10 else "tab20"]
    # Image by image in a shuffled order, so that no class hides another.
    order = np.random.default_rng(0).permutation(len(points))
    size = 60 / max(1.0, len(points) ** 0.35)
    ax.scatter(
        points[order, 0],
        points[order, 1],
        s=size,
        c=[colours(label % colours.N) for label in labels[order]],
        linewidths=0,
    )
    for number, name in enumerate(classes):
        ax.scatter([], [], s=30, color=colours(number % colours.N), label=shorten(name, 24))
    for axis, share, which in zip((ax.xaxis, ax.yaxis), explained, ("first", "second"), strict=True):
        axis.set_label_text(f"{which} component: {share:.1%} of the code's variance", fontsize=9, color=INK)
    ax.tick_params(labelsize=8.5, colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    legend = ax.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    for text in legend.get_texts():
        text.set_parse_math(False)
    save_figure(fig, path, title=title, note=note)


def save_latent_sizes(
    path: Path,
    sizes: Sequence[int],
    errors: Sequence[float],
    pca_errors: Sequence[float],
    *,
    stopped: Sequence[bool],
    smallest: int,
    labels: Sequence[str],
    title: str,
    subtitle: str,
    note: str = "",
) -> None:
    """Saves the validation error of each size of code, and PCA's, on logarithmic axes.

    Args:
        path: the PNG file to write, atomically.
        sizes: values of the code, ascending.
        errors: squared error per pixel of each size, above 0.
        pca_errors: PCA's with as many components; those that are 0 are not drawn.
        stopped: whose trials ended before their last epoch; their points are hollow.
        smallest: the size that is marked.
        labels: what stands beside each point, such as its trial.
        title: above the figure.
        subtitle: what is marked, and on which images.
        note: a small line at the foot.
    """
    fig = new_figure(6.5, 4.2)
    ax = fig.add_axes((0, 0, 1, 1))
    shown = [value if value > 0 else np.nan for value in pca_errors]
    ax.plot(sizes, shown, "--", color=GREY, marker="s", markersize=4, label="PCA")
    ax.plot(sizes, errors, "-", color=COLOURS[0], marker="o", markersize=5, label="best trial of the size")
    hollow = [(size, error) for size, error, early in zip(sizes, errors, stopped, strict=True) if early]
    if hollow:
        ax.plot(
            *zip(*hollow, strict=True), "o", color=COLOURS[0], markersize=5, markerfacecolor="white", label="stopped"
        )
    (mark,) = ax.plot(smallest, errors[list(sizes).index(smallest)], "o", color=COLOURS[0], markersize=11)
    mark.set(markeredgecolor=INK, markeredgewidth=1.5)
    for size, error, label in zip(sizes, errors, labels, strict=True):
        ax.annotate(
            label,
            (size, error),
            (0, -13),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
            parse_math=False,
        )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08, y=0.12)
    ax.set_xlabel("values of the code", fontsize=9, color=INK)
    ax.set_ylabel("squared error per pixel", fontsize=9, color=INK)
    ax.tick_params(which="both", labelsize=8.5, colors=INK)
    ax.grid(which="both", color="#E5E5E5", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=9, frameon=False)
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)
