"""Stages say themselves: plain lines where stderr is no terminal, a drawing where it is one, nothing if quiet."""

import io
import re
import sys
import threading
import time
from collections.abc import Callable

import pytest

from raysweep import stages
from raysweep.stages import Stage, format_duration, quieted, stage, tell


def test_a_stage_off_a_terminal_says_its_beginning_its_progress_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of progress may come before the first image, and during or after the last line: from another thread."""
    monkeypatch.setattr(stages, "PERIOD_S", 0.02)
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    limit = time.monotonic() + 60
    with stage("decoding", 4000, "images") as shown:
        shown.num_done = 1000
        while told.getvalue().count("decoding: 1,000 of 4,000 images") < 2:
            assert time.monotonic() < limit
            time.sleep(0.01)
        shown.num_done = 4000
    for thread in threading.enumerate():
        if thread.name == "announcement":
            thread.join(60)
    said = told.getvalue()
    assert said.startswith("decoding: 4,000 images\n")
    progress = re.findall(r"decoding: 1,000 of 4,000 images, [\d,]+ images/s, about [\d.]+ s left", said)
    assert len(progress) == said.count("decoding: 1,000 of")
    assert len(re.findall(r"decoding: 4,000 images in [\d.]+ s, [\d,]+ images/s", said)) == 1


def test_a_stage_that_fails_says_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no images"), stage("probe"):
        raise ValueError("no images")
    assert capsys.readouterr().err == "probe ...\n"


def test_quiet_says_nothing_until_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with quieted(True), stage("probe"):
        tell("a line of progress")
    assert capsys.readouterr().err == ""
    tell("a line of progress")
    assert capsys.readouterr().err == "a line of progress\n"


def test_on_a_terminal_a_bar_is_drawn_and_one_line_is_left(open_terminal: Callable[[], Callable[[], str]]) -> None:
    read = open_terminal()
    with stage("decoding", 4000, "images") as shown:
        shown.num_done = 1000
    drawn = read()
    assert "━" in drawn
    assert "decoding: 1,000 of 4,000 images" in drawn
    assert drawn.rstrip().splitlines()[-1].endswith("images/s")


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(1e-5, "0 s"), (0.204, "0.2 s"), (9.96, "10 s"), (89, "89 s"), (100, "1.7 min"), (720, "12 min"), (7200, "2.0 h")],
)
def test_durations_are_said_as_a_person_would(duration_s: float, text: str) -> None:
    assert format_duration(duration_s) == text


def test_the_part_that_is_under_way_is_said() -> None:
    shown = Stage("final evaluation")
    shown.part = "test images"
    assert re.fullmatch(r"final evaluation, test images: \S+ s so far", shown.describe())
