"""Draws a live table of a search on a terminal or in a notebook."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from raysweep.config import format_value
from raysweep.search.observer import Observer
from raysweep.search.progress import SearchProgress
from raysweep.search.progress_lines import ProgressLines
from raysweep.stages import is_drawn, is_quiet
from raysweep.task_config import Metric
from raysweep.trial_result import TrialResult

NOTEBOOK_PERIOD_S = 0.5


class NotebookCell:
    """Output of a notebook's cell that is replaced in place.

    By IPython's display, from the driver's own thread: rich's Live needs widgets there, and draws from another thread.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._next = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last update is long enough ago."""
        return time.monotonic() >= self._next

    def show(self, table: Table) -> None:
        """Shows the table in place of the last one."""
        from IPython.display import display  # there is one: this runs in a notebook

        self._next = time.monotonic() + NOTEBOOK_PERIOD_S
        if self._handle is None:
            self._handle = display(table, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(table)


class LiveTable(Observer):
    """Shows the progress of a search, which hears of each event first; a context manager that draws while it is open.

    Silent where stderr is neither a terminal nor a notebook's.
    """

    def __init__(self, progress: SearchProgress, metrics: Iterable[Metric] = ()) -> None:
        """Some of the task's `metrics` get a column."""
        self.progress = progress
        shown = [metric.name for metric in metrics if metric.live]
        self.columns = list(dict.fromkeys([*shown, *(objective.metric for objective in progress.objectives)]))
        console = Console(stderr=True)
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2, transient=True)
        self._cell = NotebookCell() if console.is_jupyter and not is_quiet() else None
        self._draws = is_drawn()
        self._lines = ProgressLines(progress)

    @property
    def is_shown(self) -> bool:
        """Tells whether there is somebody to draw for."""
        return self._draws or self._cell is not None

    def __enter__(self) -> "LiveTable":
        if self._draws:
            self._live.start()
        self._update_cell()
        return self

    def __exit__(self, *_: object) -> None:
        if self._draws:
            self._live.stop()
        self._update_cell(is_last=True)

    def _update_cell(self, is_last: bool = False) -> None:
        if self._cell is not None and (is_last or self._cell.is_due):
            self._cell.show(self.render())

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Updates the cell of a notebook, as the other events do; a terminal is drawn by itself."""
        self._update_cell()

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Updates the cell."""
        self._update_cell()

    def trial_ended(self, result: TrialResult) -> None:
        """Updates the cell; on a terminal a line above the table stays."""
        if self._draws:
            self._lines.trial_ended(result)
        self._update_cell()

    def time_passed(self) -> None:
        """Updates the cell: somebody may have told the search something."""
        self._update_cell()

    def render(self) -> Table:
        """Shows running trials, counts by state, the best so far against the baseline, speed and time left."""
        now = self.progress.take_snapshot()
        table = Table(
            title=now.describe_counts(),
            caption=f"{now.describe_best()}\n{now.speed:,.0f} images/s, {now.describe_time_left()}",
        )
        for column in ("trial", "epoch", *self.columns, "images/s"):
            table.add_column(column, justify="right")
        for trial in now.running:
            table.add_row(
                str(trial.number),
                f"{trial.epoch}/{trial.num_epochs}",
                *(format_value(trial.metrics[name]) if name in trial.metrics else "" for name in self.columns),
                f"{trial.speed:,.0f}",
            )
        return table
