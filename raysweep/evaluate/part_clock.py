"""Times the parts of a final evaluation, and shows on stderr which one is under way."""

import contextlib
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from raysweep.stages import Stage, follow, is_drawn

STAGE = "final evaluation"


class PartClock:
    """Keeps the seconds of each part by its name; a context manager that shows them while it is open."""

    def __init__(self) -> None:
        self.durations_s: dict[str, float] = {}
        """Seconds, wall clock, in the order of the parts."""
        self._stage = Stage(STAGE)
        self._lines = contextlib.ExitStack()
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn(f"{STAGE}: {{task.description}}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not is_drawn(),
        )

    def __enter__(self) -> "PartClock":
        self._began = time.perf_counter()
        self._progress.start()
        self._lines.enter_context(follow(self._stage, drawn=not self._progress.disable))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()
        self._lines.__exit__(kind, error, at)
        self.durations_s["total"] = round(time.perf_counter() - self._began, 3)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times what is done inside it as the part `name`; a part may be gone on with."""
        began = time.perf_counter()
        self._stage.part = name
        shown = self._progress.add_task(name, total=1)
        try:
            yield
        finally:
            self._progress.update(shown, completed=1)
            duration_s = self.durations_s.get(name, 0.0) + time.perf_counter() - began
            self.durations_s[name] = round(duration_s, 3)
