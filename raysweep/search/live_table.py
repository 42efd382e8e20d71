"""Draws a live table of the search on a terminal or in a notebook; silent where stderr is neither."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from raysweep.config import Metric, Objective, format_value
from raysweep.search.observer import Observer
from raysweep.trial_result import BASELINE, TrialResult

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
    """Follows a search; a context manager that draws while it is open."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        num_trials: int,
        deadline: float | None,
        ended: Iterable[TrialResult],
        metrics: Iterable[Metric] = (),
    ) -> None:
        """Begins with the trials that `ended` in earlier sessions; some of the task's `metrics` get a column."""
        self.objectives = objectives
        shown = [metric.name for metric in metrics if metric.live]
        self.columns = list(dict.fromkeys([*shown, *(objective.metric for objective in objectives)]))
        self.num_trials = num_trials
        self.deadline = deadline
        self.began = time.monotonic()
        self.running: dict[int, tuple[int, dict[str, float]]] = {}
        self.ended = list(ended)
        self._num_before = len(self.ended)
        console = Console(stderr=True)
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2, transient=True)
        self._cell = NotebookCell() if console.is_jupyter else None
        self._draws = console.is_terminal

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
        """Adds a row."""
        self.running[number] = (int(config["training"]["epochs"]), {})
        self._update_cell()

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Updates the trial's row."""
        self.running[number] = (self.running[number][0], dict(metrics))
        self._update_cell()

    def trial_ended(self, result: TrialResult) -> None:
        """Moves the trial from running to ended."""
        self.running.pop(result.number, None)
        self.ended.append(result)
        self._update_cell()

    def render(self) -> Table:
        """Shows running trials, counts by state, the best so far against the baseline, speed and time left."""
        counts = {
            state: sum(result.state == state for result in self.ended) for state in ("COMPLETE", "PRUNED", "FAIL")
        }
        speed = sum(metrics.get("train/images_per_s", 0.0) for _, metrics in self.running.values())
        table = Table(
            title=(
                f"{len(self.ended)} of {self.num_trials} trials: {counts['COMPLETE']} complete, "
                f"{counts['PRUNED']} stopped early, {counts['FAIL']} failed; {len(self.running)} running"
            ),
            caption=f"{self._best()}\n{speed:,.0f} images/s, about {self._time_left()} left",
        )
        for column in ("trial", "epoch", *self.columns, "images/s"):
            table.add_column(column, justify="right")
        for number, (epochs, metrics) in sorted(self.running.items()):
            table.add_row(
                str(number),
                f"{metrics.get('epoch', 0):.0f}/{epochs}",
                *(format_value(metrics[name]) if name in metrics else "" for name in self.columns),
                f"{metrics.get('train/images_per_s', 0):,.0f}",
            )
        return table

    def _best(self) -> str:
        values = {result.number: result.value for result in self.ended if result.value is not None}
        if not values:
            return "no trial has ended yet"
        objective = self.objectives[0]
        pick = max if objective.direction == "maximize" else min
        number = pick(values, key=lambda key: values[key])
        baseline = f", the baseline {format_value(values[BASELINE])}" if BASELINE in values else ""
        return f"best {objective.metric} {format_value(values[number])} (trial {number}){baseline}"

    def _time_left(self) -> str:
        elapsed = time.monotonic() - self.began
        num_ended = len(self.ended) - self._num_before
        if not num_ended:
            return "?"
        left = elapsed / num_ended * max(0, self.num_trials - len(self.ended))
        if self.deadline is not None:
            left = min(left, max(0.0, self.deadline - time.monotonic()))
        return f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
