"""Draws plain tables: columns as wide as their texts, to be read on a terminal and cut by other programs."""

from collections.abc import Sequence


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table; its first column is aligned to the left, and so are columns of words."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    is_number = [all(_starts_as_number(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in table
    ]


def _starts_as_number(text: str) -> bool:
    return text[:1] in "+-–0123456789"
