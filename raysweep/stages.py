"""Says on stderr which stage of the work is under way: a bar on a terminal, plain lines elsewhere, or nothing."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from raysweep.announcement import repeat
from raysweep.storage_faults import say

if TYPE_CHECKING:
    from rich.table import Table

PERIOD_S = 60.0
"""How often a stage says how far it is, where no bar shows it."""
_BAR_WIDTH = 30


class _State:
    """Holds whether this process says nothing of its progress."""

    is_quiet = False


@contextlib.contextmanager
def quieted(is_quiet: bool) -> Iterator[None]:
    """Says nothing of the stages within, if `is_quiet`; notes, warnings and errors are none of them."""
    before, _State.is_quiet = _State.is_quiet, is_quiet
    try:
        yield
    finally:
        _State.is_quiet = before


def is_quiet() -> bool:
    """Tells whether nothing is to be said of progress."""
    return _State.is_quiet


def is_drawn() -> bool:
    """Tells whether progress is drawn: stderr is a terminal, and this process is not quiet."""
    from rich.console import Console  # slow: not for commands that show no progress

    return not _State.is_quiet and Console(stderr=True).is_terminal


def tell(text: str) -> None:
    """Prints a line of progress on stderr, unless this process is quiet."""
    if not _State.is_quiet:
        say(text)


class Stage:
    """Counts what is done of a stage; `num_done` is for whoever does it to raise."""

    def __init__(self, name: str, total: int = 0, unit: str = "") -> None:
        """total: how many there are of `unit`, 0 where nothing is counted."""
        self.name = name
        self.total = total
        self.unit = unit
        self.num_done = 0
        self.part = ""
        """What of the stage is under way; may be empty."""
        self._began = time.monotonic()

    @property
    def duration_s(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._began

    def describe(self) -> str:
        """Says how far the stage is, how fast, and how long it will take."""
        part = f", {self.part}" if self.part else ""
        if not self.total:
            return f"{self.name}{part}: {format_duration(self.duration_s)} so far"
        rate = self.num_done / max(self.duration_s, 1e-3)
        left = f", about {format_duration((self.total - self.num_done) / rate)} left" if self.num_done else ""
        return f"{self.name}{part}: {self.num_done:,} of {self.total:,} {self.unit}, {rate:,.0f} {self.unit}/s{left}"

    def describe_end(self) -> str:
        """Says what was done, how long it took, and how fast it was."""
        took = format_duration(self.duration_s)
        if not self.total:
            return f"{self.name}: done in {took}"
        rate = self.num_done / max(self.duration_s, 1e-3)
        return f"{self.name}: {self.num_done:,} {self.unit} in {took}, {rate:,.0f} {self.unit}/s"

    def draw(self) -> "Table":
        """Draws a bar, where there is something to count, and what `describe` says."""
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table

        drawn = Table.grid(padding=(0, 1))
        is_counted = self.total > 0
        bar = ProgressBar(self.total, self.num_done, width=_BAR_WIDTH) if is_counted else Spinner("dots")
        drawn.add_row(bar, self.describe())
        return drawn


@contextlib.contextmanager
def stage(name: str, total: int = 0, unit: str = "") -> Iterator[Stage]:
    """Shows a stage while it lasts, and says at its end how long it took, unless it fails; see `Stage`."""
    shown = Stage(name, total, unit)
    with contextlib.ExitStack() as stack:
        if is_drawn():
            from rich.console import Console
            from rich.live import Live

            live = Live(console=Console(stderr=True), get_renderable=shown.draw, refresh_per_second=4, transient=True)
            stack.enter_context(live)
        with follow(shown, drawn=is_drawn()):
            yield shown
            stack.close()  # before the last line


@contextlib.contextmanager
def follow(shown: Stage, *, drawn: bool) -> Iterator[None]:
    """Says at its end how long a stage took, unless it fails; before that how far it is, where that is not drawn."""
    if drawn or _State.is_quiet:
        yield
    else:
        say(f"{shown.name}: {shown.total:,} {shown.unit}" if shown.total else f"{shown.name} ...")
        with repeat(lambda: say(shown.describe()), PERIOD_S):
            yield
    tell(shown.describe_end())


def format_duration(duration_s: float) -> str:
    """Formats seconds as a person would say them, below 10 of a unit with two digits: 0.34 s, 12 s, 3.4 min."""
    if duration_s < 90:
        return f"{_round(duration_s)} s"
    return f"{_round(duration_s / 60)} min" if duration_s < 90 * 60 else f"{duration_s / 3600:,.1f} h"


def _round(number: float) -> str:
    return f"{round(number, 2):.2g}" if number < 9.95 else f"{number:.0f}"
