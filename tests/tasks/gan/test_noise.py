"""Noise schedules: each kind against its formula, its ends, and the cases that the formula leaves out."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.tasks.gan.noise import NoiseSchedule, time_of

deviations = st.floats(0.0, 2.0, allow_subnormal=False)
schedules = st.builds(
    NoiseSchedule,
    kind=st.sampled_from(("constant", "linear", "cosine", "exponential")),
    start=deviations,
    end=deviations,
    until=st.floats(0.05, 1.0),
)


def test_the_reports_schedule() -> None:
    """Linear from 0.10 to 0, one value an epoch, t = (epoch - 1) / (epochs - 1)."""
    report = NoiseSchedule(kind="linear", start=0.10, end=0.0)
    values = [report.value(time_of(epoch - 1, 5)) for epoch in range(1, 6)]
    assert values == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0], abs=1e-15)
    assert values[-1] == 0


def test_every_kind_against_numpy() -> None:
    times = np.linspace(0, 1, 21)
    share = np.minimum(1, times / 0.8)
    expected = {
        "constant": np.full_like(times, 0.3),
        "linear": np.interp(times, [0, 0.8, 1], [0.3, 0.06, 0.06]),
        "cosine": 0.18 + 0.12 * np.cos(np.pi * share),
        "exponential": np.exp(np.log(0.3) * (1 - share) + np.log(0.06) * share),
    }
    for kind, values in expected.items():
        schedule = NoiseSchedule(kind=kind, start=0.3, end=0.06, until=0.8)  # type: ignore[arg-type]
        np.testing.assert_allclose([schedule.value(t) for t in times], values, rtol=1e-12)


@given(schedules, st.floats(0, 1), st.floats(0, 1))
def test_it_goes_from_start_to_end_without_turning(schedule: NoiseSchedule, first: float, second: float) -> None:
    assert schedule.value(0.0) == schedule.start
    if schedule.kind != "constant":
        assert schedule.value(1.0) == schedule.value(schedule.until) == schedule.end
    low, high = sorted((schedule.start, schedule.end))
    early, late = (schedule.value(t) for t in sorted((first, second)))
    for value in (early, late):
        assert low - 1e-12 <= value <= high + 1e-12
    direction = math.copysign(1, schedule.end - schedule.start)
    assert direction * (late - early) >= -1e-12


@pytest.mark.parametrize(
    ("start", "end", "t", "expected"),
    [
        (0.1, 0.0, 0.5, 0.01),  # towards 0 as towards 1 % of the start: 0.1 * 0.01^0.5
        (0.1, 0.0, 0.999999, 0.001),
        (0.1, 0.0, 1.0, 0.0),
        (0.0, 0.1, 0.0, 0.0),
        (0.0, 0.1, 0.5, 0.01),
        (0.0, 0.0, 0.5, 0.0),
        (0.1, 0.01, 0.5, 0.1 * 0.1**0.5),
    ],
)
def test_an_exponential_reaches_zero_at_the_end_only(start: float, end: float, t: float, expected: float) -> None:
    assert NoiseSchedule(kind="exponential", start=start, end=end).value(t) == pytest.approx(expected, rel=1e-4)


def test_the_time_of_a_single_epoch_is_the_start() -> None:
    assert time_of(0, 1) == 0.0
    assert [time_of(index, 3) for index in range(3)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "values", [{"start": -0.01}, {"start": 2.1}, {"end": -1.0}, {"end": float("nan")}, {"until": 0.0}, {"until": 1.1}]
)
def test_values_outside_their_range_are_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=rf"task\.noise\.{name} must be .*, got"):
        NoiseSchedule(**values)


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NoiseSchedule().start = 1.0  # type: ignore[misc]
