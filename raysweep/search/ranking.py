"""Ranks trials, and finds those at the same point."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raysweep.config import Objective
from raysweep.trial_result import TrialResult


def rank_results(results: Iterable[TrialResult], objectives: Sequence[Objective]) -> list[TrialResult]:
    """Ranks the complete trials, the best by the first objective first.

    Among equals the second objective decides, where there is one, and then the earliest leads.
    """
    complete = [result for result in results if result.state == "COMPLETE" and result.value is not None]
    return sorted(complete, key=lambda result: (_losses(result, objectives), result.number))


def find_front(results: Iterable[TrialResult], objectives: Sequence[Objective]) -> list[TrialResult]:
    """Finds the Pareto front: complete trials that none beats in one objective and equals or beats in the other.

    The best by the first objective is first, and the best by the second last. With one objective there is no front.
    """
    front: list[TrialResult] = []
    if len(objectives) == 1:
        return front
    for result in rank_results(results, objectives):
        losses, last = _losses(result, objectives), _losses(front[-1], objectives) if front else None
        if last is None or losses[1] < last[1] or losses == last:
            front.append(result)
    return front


def point_key(params: Mapping[str, Any]) -> str:
    """Returns the same text for the same point of a space, and only for that."""
    return json.dumps(params, sort_keys=True)


def best_of_points(results: Iterable[TrialResult], objectives: Sequence[Objective]) -> list[TrialResult]:
    """Finds the best complete trial of each point, the best first."""
    best: dict[str, TrialResult] = {}
    for result in rank_results(results, objectives):
        best.setdefault(point_key(result.params), result)
    return list(best.values())


def _losses(result: TrialResult, objectives: Sequence[Objective]) -> list[float]:
    """Returns the trial's values by the objectives, less is better."""
    values = (result.value, result.second_value)
    return [
        -value if objective.direction == "maximize" else value
        for objective, value in zip(objectives, values, strict=False)
        if value is not None
    ]
