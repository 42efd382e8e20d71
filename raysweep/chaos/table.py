"""Draws the table of a chaos test."""

from collections.abc import Sequence

from rich.table import Table

from raysweep.chaos.run import Outcome

COLOURS = {"passed": "green", "FAILED": "bold red", "not possible here": "yellow"}


def draw_table(outcomes: Sequence[Outcome]) -> Table:
    """Draws a row for each fault: what was done, how the search answered, what its books say, and the verdict."""
    table = Table("fault", "what was done", "answer", "trials and epochs", "verdict", show_lines=True)
    for outcome in outcomes:
        books = "\n".join(filter(None, [outcome.books, *outcome.problems]))
        table.add_row(
            outcome.fault,
            outcome.done,
            outcome.answer,
            books if outcome.problems or not outcome.possible else f"{books}, as undisturbed",
            f"[{COLOURS[outcome.verdict]}]{outcome.verdict}",
        )
    return table
