"""What is far worse than the rest does not flatten a figure; what is better, or forecast, is always in it."""

import pytest
from plotly import graph_objects as go

from raysweep.report.focus import focus

GOOD = [0.90, 0.91, 0.92, 0.93, 0.94]


@pytest.mark.parametrize(
    ("values", "is_maximized", "also", "span", "said"),
    [
        pytest.param([*GOOD, 0.1], True, [], (0.90, 0.94), "1 trial far below is not shown", id="one that failed"),
        pytest.param([*GOOD, 0.1, 0.2], True, [], (0.90, 0.94), "2 trials far below are not shown", id="two"),
        pytest.param([1.0, 1.1, 1.2, 1.3, 300.0], False, [], (1.0, 1.3), "1 trial far above is not", id="minimised"),
        pytest.param([*GOOD, 0.1], True, [0.8, 0.99], (0.8, 0.99), "1 trial far below is not shown", id="a forecast"),
    ],
)
def test_what_is_far_worse_is_left_out_and_said(
    values: list[float], is_maximized: bool, also: list[float], span: tuple[float, float], said: str
) -> None:
    figure = go.Figure()
    sentence = focus(figure, values, is_maximized=is_maximized, also=also, what="trial")
    assert sentence.startswith(f" {said}")
    margin = 0.05 * (span[1] - span[0])
    assert figure.layout.yaxis.range == pytest.approx((span[0] - margin, span[1] + margin))


@pytest.mark.parametrize(
    ("values", "is_maximized"),
    [
        pytest.param(GOOD, True, id="all alike"),
        pytest.param([*GOOD, 0.88], True, id="little to gain"),
        pytest.param([0.1, 0.11, 0.12, 0.13, 0.9], True, id="the best is never left out"),
        pytest.param([0.5], True, id="one"),
        pytest.param([0.5, 0.5, 0.5], True, id="equal"),
        pytest.param([], False, id="none"),
    ],
)
def test_else_all_is_shown(values: list[float], is_maximized: bool) -> None:
    figure = go.Figure()
    assert focus(figure, values, is_maximized=is_maximized, what="trial") == ""
    assert figure.layout.yaxis.range is None
