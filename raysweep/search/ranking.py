"""Which trials lead."""

from collections.abc import Iterable

from raysweep.config import Objective
from raysweep.search.strategy import TrialResult


def rank_results(results: Iterable[TrialResult], objective: Objective) -> list[TrialResult]:
    """The complete trials, the best first. The earliest of equals leads."""
    sign = -1 if objective.direction == "maximize" else 1
    complete = [(sign * r.value, r.number, r) for r in results if r.state == "COMPLETE" and r.value is not None]
    return [result for _, _, result in sorted(complete, key=lambda entry: entry[:2])]
