"""Which trials lead, and which are at the same point."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from raysweep.config import Objective
from raysweep.search.strategy import TrialResult


def rank_results(results: Iterable[TrialResult], objective: Objective) -> list[TrialResult]:
    """The complete trials, the best first. The earliest of equals leads."""
    sign = -1 if objective.direction == "maximize" else 1
    complete = [(sign * r.value, r.number, r) for r in results if r.state == "COMPLETE" and r.value is not None]
    return [result for _, _, result in sorted(complete, key=lambda entry: entry[:2])]


def point_key(params: Mapping[str, Any]) -> str:
    """The same text for the same point of a space, and only for that."""
    return json.dumps(params, sort_keys=True)


def best_of_points(results: Iterable[TrialResult], objective: Objective) -> list[TrialResult]:
    """The best complete trial of each point, the best first."""
    best: dict[str, TrialResult] = {}
    for result in rank_results(results, objective):
        best.setdefault(point_key(result.params), result)
    return list(best.values())
