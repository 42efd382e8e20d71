"""What every figure shares: an empty canvas, colours, and texts placed around what was drawn.

Only matplotlib's object API is used: no pyplot, no state shared between figures, no display. Titles and notes
are placed around what was drawn and the canvas is grown to fit; class names are shortened in the middle where
they are very long, never clipped.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from raysweep.atomic_files import write_atomically

DPI = 130
INK, GREY = "#222222", "#666666"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's palette, for colour-blind readers."""


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of that size in inches, bound to the Agg canvas."""
    fig = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(fig)
    return fig


def shorten(name: str, most: int) -> str:
    """Returns the name with its middle left out where it is longer than `most` characters."""
    tail = most * 2 // 5
    return name if len(name) <= most else f"{name[: most - tail - 1]}…{name[-tail:]}"


def save_figure(fig: Figure, path: Path, *, title: str, subtitle: str = "", note: str = "") -> None:
    """Puts the texts around what was drawn, and writes the PNG atomically, grown to hold all of it."""
    _put_text(fig, subtitle, above=True, fontsize=9, color=GREY)
    _put_text(fig, title, above=True, fontsize=13, color=INK, fontweight="bold")
    _put_text(fig, note, above=False, fontsize=8, color=GREY)

    def write(temporary: Path) -> None:
        fig.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.15)

    write_atomically(path, write)


def _put_text(fig: Figure, text: str, *, above: bool, fontsize: float, **style: Any) -> None:
    """Adds a paragraph above or below all that is drawn so far, wrapped to its width."""
    if not text:
        return
    box = _drawn_box(fig)
    characters = int(max(box.width * fig.get_figwidth(), 3.5) * 72 / (0.58 * fontsize))
    wrapped = "\n".join(textwrap.wrap(text, characters, break_on_hyphens=False))
    gap = 0.12 / fig.get_figheight()
    y, va = (box.y1 + gap, "bottom") if above else (box.y0 - gap, "top")
    fig.text(box.x0, y, wrapped, va=va, fontsize=fontsize, parse_math=False, **style)


def put_legend(fig: Figure, handles: Sequence[Line2D]) -> None:
    """Adds a legend below all that is drawn so far, one line each."""
    fig.draw_without_rendering()  # lays out the panels
    fig.set_layout_engine("none")  # else the next draw makes room for the legend inside the figure
    box = _drawn_box(fig)
    corner = (box.x0, box.y0 - 0.12 / fig.get_figheight())
    legend = fig.legend(
        handles=handles, loc="upper left", bbox_to_anchor=corner, borderaxespad=0, borderpad=0, frameon=False
    )
    for text in legend.get_texts():
        text.set(color=INK, fontsize=9, parse_math=False)


def _drawn_box(fig: Figure) -> Bbox:
    """Returns the box around all that is drawn so far, in units of the figure; it may reach beyond [0, 1]."""
    inches = fig.get_tightbbox()
    width, height = fig.get_size_inches()
    return Bbox.from_extents(inches.x0 / width, inches.y0 / height, inches.x1 / width, inches.y1 / height)
