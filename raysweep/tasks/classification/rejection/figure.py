"""Histograms of a detector's scores: test images against each set of outliers."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from raysweep.evaluate.figures.canvas import COLOURS, GREY, INK, new_figure, save_figure

NUM_BINS = 60


def save_score_histograms(
    path: Path,
    real: NDArray[np.float64],
    outliers: Mapping[str, NDArray[np.float64]],
    threshold: float,
    *,
    score: str,
    title: str,
    note: str = "",
) -> None:
    """Saves one panel for each set of outliers: its scores and those of the test images, with the threshold.

    Args:
        path: the PNG file to write, atomically.
        real: scores (N,) of test images, finite.
        outliers: name of a set -> its scores, finite; at least 1 set.
        threshold: scores below it are rejected.
        score: what the scores are called.
        title: above the figure.
        note: a small line at the foot.

    Raises:
        ValueError: for no scores, or one that is not finite.
    """
    for name, values in {"test images": real, **outliers}.items():
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"scores must be finite and at least 1, got {values} for {name}; leave the set out")
    low = max(min(values.min() for values in (real, *outliers.values())), real.min() - 3 * np.ptp(real))
    high = max(values.max() for values in (real, *outliers.values()))
    bins = np.linspace(min(low, threshold), max(high, threshold) + 1e-9, NUM_BINS + 1)
    fig = new_figure(8, 1.1 * len(outliers))
    grid = {"hspace": 0.45}
    axes: list[Axes] = list(fig.subplots(len(outliers), 1, sharex=True, squeeze=False, gridspec_kw=grid).flat)
    for ax, (name, values), colour in zip(axes, outliers.items(), cycle(COLOURS)):
        _draw_panel(ax, [(real, GREY, 0.45), (values, colour, 0.65)], bins, threshold)
        text = f"{name}: {float((values < threshold).mean()):.1%} rejected"
        ax.set_title(text, loc="left", fontsize=9, color=INK, pad=3, parse_math=False)
    axes[-1].set_xlabel(f"score, {score}: the higher, the more like the classes", fontsize=9, color=INK)
    subtitle = (
        f"grey: test images, {float((real >= threshold).mean()):.1%} accepted; in colour: what should be rejected; "
        "dashed: the threshold, set on validation images; every histogram is scaled to its own highest bin, the first "
        "bin has what lies below it too"
    )
    save_figure(fig, path, title=title, subtitle=subtitle, note=note)


def _draw_panel(
    ax: Axes,
    histograms: Sequence[tuple[NDArray[np.float64], str, float]],
    bins: NDArray[np.float64],
    threshold: float,
) -> None:
    """Draws histograms (scores, colour, opacity) over each other, and the threshold."""
    for values, colour, alpha in histograms:
        counts = np.histogram(values.clip(min=bins[0]), bins)[0]
        ax.stairs(counts / max(1, counts.max()), bins, fill=True, color=colour, alpha=alpha)
    ax.axvline(threshold, color=INK, linestyle="--", linewidth=1)
    ax.set_yticks([])
    ax.tick_params(labelsize=8, colors=INK)
    ax.spines[["top", "right", "left"]].set_visible(False)
