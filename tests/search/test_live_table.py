"""The live table, as text."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from raysweep.config import Objective
from raysweep.search.live_table import LiveTable, NotebookCell
from raysweep.search.progress import SearchProgress
from raysweep.task_config import Metric
from raysweep.trial_result import TrialResult

ACCURACY = Objective(metric="val/accuracy")
SIZE = Objective(metric="model/num_parameters", direction="minimize")
METRICS = (
    Metric("train/loss", "minimize", "shown", live=True),
    Metric("val/loss", "minimize", "shown", live=True),
    Metric("val/accuracy", "maximize", "shown as the objective"),
    Metric("val/macro_f1", "maximize", "not shown"),
)
CONFIG = {"training": {"epochs": 8}}


def draw(table: LiveTable) -> str:
    printed = io.StringIO()
    console = Console(file=printed, width=120)
    console.print(table.render())
    return " ".join(printed.getvalue().split())  # titles are wrapped


def end(number: int, value: Any, state: Any = "COMPLETE") -> TrialResult:
    return TrialResult(number=number, state=state, value=value, best_epoch=1, params={}, duration_s=1.0)


def build(objectives: list[Objective], ended: list[TrialResult]) -> tuple[SearchProgress, LiveTable]:
    progress = SearchProgress(objectives, 6, None, ended)
    return progress, LiveTable(progress, METRICS)


def test_running_trials_counts_and_the_best_against_the_baseline() -> None:
    progress, table = build([ACCURACY], [end(0, 0.5)])
    assert "1 of 6 trials: 1 complete, 0 stopped early, 0 failed; 0 running" in draw(table)
    for number in (1, 2, 3):
        progress.trial_started(number, CONFIG, {})
    metrics = {"epoch": 2, "train/loss": 0.71, "val/loss": 0.62, "val/accuracy": 0.81, "train/images_per_s": 1234.0}
    progress.epoch_ended(1, {**metrics, "val/macro_f1": 0.777})
    progress.trial_ended(end(2, 0.9))
    text = draw(table)
    assert "2 of 6 trials: 2 complete, 0 stopped early, 0 failed; 2 running" in text
    assert "best val/accuracy 0.9000 (trial 2), the baseline 0.5000" in text
    for shown in ("2/8", "0.7100", "0.6200", "0.8100", "1,234 images/s", "0/8"):
        assert shown in text
    assert "0.7770" not in text


def test_on_a_terminal_a_line_for_each_trial_that_has_ended_is_left(
    open_terminal: Callable[[], Callable[[], str]],
) -> None:
    read = open_terminal()
    progress, table = build([ACCURACY], [end(0, 0.5)])
    with table:
        progress.trial_started(1, CONFIG, {})
        for observer in (progress, table):
            observer.trial_ended(end(1, 0.75))
    left = read()
    assert "trial 1 complete, val/accuracy 0.7500; best val/accuracy 0.7500 (trial 1), the baseline 0.5000" in left


@pytest.mark.parametrize(("objectives", "is_shown"), [([ACCURACY], False), ([ACCURACY, SIZE], True)])
def test_a_second_objective_has_a_column(objectives: list[Objective], is_shown: bool) -> None:
    progress, table = build(objectives, [])
    progress.trial_started(0, CONFIG, {})
    progress.epoch_ended(0, {"epoch": 1, "val/accuracy": 0.81, "model/num_parameters": 412330.0})
    assert ("412,330" in draw(table)) == is_shown
    assert "no trial is complete yet" in draw(table)


def test_a_notebook_shows_what_somebody_tells_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, table = build([ACCURACY], [])
    shown: list[str] = []
    cell = NotebookCell()
    monkeypatch.setattr(cell, "show", lambda table: shown.append(str(table.title)))
    monkeypatch.setattr(table, "_cell", cell)
    progress.num_trials = 40
    table.time_passed()
    assert shown == ["0 of 40 trials: 0 complete, 0 stopped early, 0 failed; 0 running"]


def test_nothing_is_drawn_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    progress, table = build([ACCURACY], [])
    with table:
        progress.trial_started(0, CONFIG, {})
        table.trial_started(0, CONFIG, {})
    assert not table.is_shown
    assert capsys.readouterr() == ("", "")
