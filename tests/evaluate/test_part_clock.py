"""The parts of a final evaluation are timed under their names, also where one fails; a pipe gets lines only."""

import re

import pytest

from raysweep.evaluate.part_clock import PartClock


def test_parts_are_kept_in_order_and_add_up_within_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    with PartClock() as clock:
        for name in ("test images", "baseline", "test images"):
            with clock.part(name):
                sum(range(10_000))
    assert list(clock.durations_s) == ["test images", "baseline", "total"]
    *parts, total = clock.durations_s.values()
    assert min(parts) >= 0
    assert sum(parts) <= total + 0.002  # rounded to milliseconds
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"final evaluation \.\.\.\nfinal evaluation: done in [\d.]+ s\n", said.err)


def test_a_part_that_fails_is_timed_and_its_error_is_passed_on() -> None:
    with pytest.raises(ValueError, match="no images"), PartClock() as clock, clock.part("test images"):
        raise ValueError("no images")
    assert list(clock.durations_s) == ["test images", "total"]
