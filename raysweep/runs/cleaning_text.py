"""Describes what may be deleted for a person."""

from pathlib import Path

from raysweep.runs.cleaning import Cleaning
from raysweep.runs.table import draw_table
from raysweep.storage_faults import format_bytes


def describe_cleaning(cleaning: Cleaning, place: Path) -> str:
    """Returns a table of what may be deleted, what it frees in all, and what was passed over."""
    rows = [
        [format_bytes(item.size_bytes), item.kind, str(item.path.relative_to(place)), item.why]
        for item in sorted(cleaning.items, key=lambda item: -item.size_bytes)
    ]
    total = format_bytes(cleaning.size_bytes)
    if not rows:
        end = "there is nothing to delete"
    elif cleaning.is_done:
        end = f"deleted: {total}"
    else:
        end = f"{total} may be deleted; nothing is, without --yes"
    table = draw_table(["size", "what", f"in {place}", "why"], rows) if rows else []
    stays = [f"stays: {reason}" for reason in cleaning.passed_over]
    return "\n".join([*table, *([""] if table else []), *stays, end])
