"""Defines a section of the report, and what it is made of: tables, charts and pictures as HTML."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raysweep import file_guard

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from raysweep.run_folder import RunFolder
    from raysweep.search.results import Results

Cell = str | int | float | None
"""Of a table: a number, a text (Markup stays HTML, all else is escaped), or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the report under a heading of its own."""

    title: str
    how_to_read: str
    """One sentence, below the heading."""
    html: Markup
    """Made of `render_table`, `render_chart`, `render_picture` or a template of one's own, in which names of users are
    escaped; joined with +."""
    is_folded: bool = False
    """Whether it is shown only once a reader opens it."""


SectionBuilder = Callable[["RunFolder", "Results"], list[Section]]
"""What `TaskConfig.report_sections` names: makes a task's sections on the test images, of the run's folder and results.

It reads what the final evaluation has left in `test/`, opens no test split and imports no torch."""


@cache
def load_environment() -> Environment:
    """Loads the templates of the report, in which each value is escaped unless it is Markup."""
    environment = Environment(
        loader=PackageLoader("raysweep.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _format_cell
    environment.tests["missing"] = _is_missing
    return environment


def render(template: str, **values: Any) -> Markup:
    """Fills one of the report's templates."""
    return Markup(load_environment().get_template(template).render(**values))


def render_table(
    columns: Mapping[str, str], rows: Sequence[Sequence[Cell]], caption: str, *, first: str | None = None
) -> Markup:
    """Renders a table that sorts by a click on the name of a column; cells without a value stay last.

    columns: names to formats of their numbers, as of `format()`: ".3f", ".1%", ",d"; "" is of text. caption: what the
    rows are, for screen readers and above the table. first: the column by which the rows are in order already.
    """
    return render("table.html", columns=columns, rows=rows, caption=caption, first=first)


def render_text(text: str) -> Markup:
    """Renders a paragraph."""
    return Markup("<p>{}</p>").format(text)


def _is_missing(value: Cell) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _format_cell(value: Cell, spec: str) -> str | Markup:
    """Formats a cell; a number that is none, or is missing, is a dash."""
    if _is_missing(value):
        return "–"
    return format(value, spec) if isinstance(value, int | float) and spec else Markup.escape(value)


def render_chart(figure: "Figure", description: str, *, min_width_px: int = 0) -> Markup:
    """Renders a figure of plotly that the page draws, in colours of its own for light and dark.

    description: what the figure shows, in a few words, for screen readers. min_width_px: less makes it unreadable, so
    that it scrolls on a narrow screen.
    """
    figure.update_layout(template=None, title=None)
    return render(
        "chart.html",
        json=figure.to_json(),
        description=description,
        height=figure.layout.height or 360,
        min_width_px=min_width_px,
    )


def render_picture(picture: Path | bytes, description: str, *, width_px: int | None = None) -> Markup:
    """Renders a picture, PNG, JPEG or WebP, whose bytes become part of the page.

    description: what it shows, for who cannot see it. width_px: the most that it takes of the page; none: all of it.
    """
    content = picture if isinstance(picture, bytes) else file_guard.read_bytes(picture, "a picture of the report")
    kind = {b"\x89PNG": "png", b"RIFF": "webp"}.get(content[:4], "jpeg")
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return render("picture.html", source=source, description=description, width_px=width_px)
