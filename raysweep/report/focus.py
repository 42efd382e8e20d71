"""Chooses which part of its vertical axis a figure shows first, so that one bad value does not flatten the others."""

import statistics
from collections.abc import Sequence

from plotly import graph_objects as go

REACH = 2.0
"""Times as far from the median as the best value is, on its other side, up to where values are shown."""
GAIN = 2.0
"""Times that the axis has to become shorter."""
MARGIN = 0.05


def focus(
    figure: go.Figure, values: Sequence[float], *, is_maximized: bool, also: Sequence[float] = (), what: str
) -> str:
    """Leaves out of a figure's first view what is far worse than most values, where that shows the others better.

    also: what is shown in any case, such as forecasts. what: the name of one value, such as "trial".

    Returns:
        A sentence that says so; empty where all is shown.
    """
    if not values:
        return ""
    median, best = statistics.median(values), max(values) if is_maximized else min(values)
    shown = [*also, *(value for value in values if abs(value - median) <= REACH * abs(best - median))]
    every = [*values, *also]
    length = max(shown) - min(shown)
    if not 0 < GAIN * length < max(every) - min(every):
        return ""
    first, last = min(shown) - MARGIN * length, max(shown) + MARGIN * length
    figure.update_yaxes(range=[first, last])
    num = sum(not first <= value <= last for value in values)
    where, be = "below" if is_maximized else "above", "is" if num == 1 else "are"
    return f" {num:,} {what}{'s' * (num != 1)} far {where} {be} not shown: a double click shows all."
