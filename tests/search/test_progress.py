"""How far a search is: counts, the best, the time left, and the lines of a log that say them."""

import re
import time
from typing import Any

import pytest

from raysweep import config_fields
from raysweep.config import Objective
from raysweep.search import progress_lines
from raysweep.search.progress import SearchProgress, Snapshot
from raysweep.search.progress_lines import ProgressLines, describe_running
from raysweep.stages import quieted
from raysweep.trial_result import TrialResult

LOSS = Objective(metric="val/loss", direction="minimize")
CONFIG = {"training": {"epochs": 4}}


def end(number: int, value: Any, state: Any = "COMPLETE", error: str | None = None) -> TrialResult:
    return TrialResult(number=number, state=state, value=value, best_epoch=1, params={}, duration_s=1.0, error=error)


@pytest.fixture
def progress() -> SearchProgress:
    return SearchProgress([LOSS], 6, None, [end(0, 0.5)])


def test_the_best_is_of_the_complete_trials_as_in_the_results(progress: SearchProgress) -> None:
    progress.trial_ended(end(1, 0.1, "PRUNED"))
    progress.trial_ended(end(2, None, "FAIL", "NaN"))
    progress.trial_ended(end(3, 0.4))
    now = progress.take_snapshot()
    assert now.describe_best() == "best val/loss 0.4000 (trial 3), the baseline 0.5000"
    assert now.describe_counts() == "4 of 6 trials: 2 complete, 1 stopped early, 1 failed; 0 running"


def test_a_baseline_that_failed_is_said(progress: SearchProgress) -> None:
    failed = SearchProgress([LOSS], 6, None, [end(0, None, "FAIL", "NaN")])
    assert failed.take_snapshot().describe_best() == "no trial is complete yet"
    failed.trial_ended(end(1, 0.4))
    assert failed.take_snapshot().describe_best() == "best val/loss 0.4000 (trial 1), the baseline failed"


def test_the_time_left_is_by_what_this_session_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, *[120.0] * 20])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress = SearchProgress([LOSS], 6, 150.0, [end(0, 0.5)])
    assert progress.take_snapshot().time_left_s is None
    for number in (1, 2):
        progress.trial_started(number, CONFIG, {})
    progress.epoch_ended(1, {"epoch": 3})  # it goes on after two epochs
    now = progress.take_snapshot()
    assert now.time_left_s == 30.0, "no trial starts after the deadline"
    assert now.describe_time_left() == "about 30 s left of the time budget"
    progress.deadline = None
    assert progress.take_snapshot().time_left_s == 20 / 0.25 * 4.75
    progress.trial_ended(end(1, 0.4))
    assert progress.take_snapshot().time_left_s == 20 * 4


def test_a_time_budget_that_is_used_up_is_said_while_trials_still_run(progress: SearchProgress) -> None:
    for number in (1, 2):
        progress.trial_started(number, CONFIG, {})
    progress.epoch_ended(1, {"epoch": 1})
    progress.deadline = time.monotonic() - 1.0
    now = progress.take_snapshot()
    assert now.time_left_s is None
    assert now.describe_time_left() == "the time budget is used up, 2 still running"
    for number in (1, 2):
        progress.trial_ended(end(number, 0.4))
    assert progress.take_snapshot().describe_time_left() == "the time budget is used up"


def test_a_trial_that_goes_on_is_at_the_epoch_at_which_it_was_left() -> None:
    progress = SearchProgress([LOSS], 6, None, [], {1: 3, 2: 0}.__getitem__)
    for number in (1, 2):
        progress.trial_started(number, CONFIG, {})
    assert [trial.epoch for trial in progress.take_snapshot().running] == [3, 0]
    progress.epoch_ended(1, {"epoch": 4})
    assert progress.take_snapshot().running[0].epoch == 4


def test_a_snapshot_is_json_and_back(progress: SearchProgress) -> None:
    progress.trial_started(1, CONFIG, {})
    progress.epoch_ended(1, {"epoch": 2, "val/loss": 0.3, "train/images_per_s": 1234.0})
    now = progress.take_snapshot()
    assert config_fields.from_json(Snapshot, config_fields.to_json(now)) == now


def test_each_trial_that_ends_has_a_line(progress: SearchProgress, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ProgressLines(progress)
    for result in (end(1, 0.4), end(2, None, "FAIL", "ValueError: no")):
        progress.trial_ended(result)
        lines.trial_ended(result)
    lines.time_passed()
    lines_said = capsys.readouterr().err.splitlines()
    said = [re.sub(r"about \S+ s left$", "about _ s left", line[len("hh:mm:ss ") :]) for line in lines_said]
    best = "best val/loss 0.4000 (trial 1), the baseline 0.5000"
    assert said == [
        f"trial 1 complete, val/loss 0.4000; {best}; 2 of 6 trials, about _ s left",
        f"trial 2 failed: ValueError: no; {best}; 3 of 6 trials, about _ s left",
    ]


def test_a_minute_has_a_line_unless_it_is_quiet(
    progress: SearchProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_lines, "PERIOD_S", 0.0)
    lines = ProgressLines(progress)
    lines.time_passed()
    assert "1 of 6 trials" in capsys.readouterr().err
    with quieted(True):
        lines.time_passed()
        lines.trial_ended(end(1, 0.4))
    assert capsys.readouterr().err == ""


def test_the_line_of_a_minute_names_what_runs(progress: SearchProgress) -> None:
    for number in range(1, 12):
        progress.trial_started(number, CONFIG, {})
    progress.epoch_ended(1, {"epoch": 2, "val/loss": 0.3, "train/images_per_s": 1234.0})
    progress.is_paused = True
    line = describe_running(progress.take_snapshot())
    assert "11 running; paused (trial 1 at epoch 2 of 4 with 0.3000, trial 2 at epoch 0 of 4, " in line
    assert "trial 8 at epoch 0 of 4, 3 more), 1,234 images/s; best val/loss 0.5000 (trial 0)" in line
