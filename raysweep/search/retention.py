"""Which checkpoints stay on disk: of a search those of leading and running trials, the Pareto front, the baseline."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.config import Objective
from raysweep.evaluate.final import trial_folder
from raysweep.search.ranking import best_of_points, find_front, rank_results
from raysweep.search.strategy import BASELINE, TrialResult

KEEP_LEADING = 3


def keep_leading(ended: list[TrialResult], objectives: Sequence[Objective]) -> set[int]:
    """The baseline, the three trials that lead and those on the Pareto front, for a search."""
    leading = rank_results(ended, objectives)[:KEEP_LEADING]
    return {BASELINE, *(result.number for result in (*leading, *find_front(ended, objectives)))}


def keep_of_points(ended: list[TrialResult], objectives: Sequence[Objective]) -> set[int]:
    """The best trial of each point, for finalists."""
    return {result.number for result in best_of_points(ended, objectives)}


class Retention:
    """Follows a search as an observer and removes what will not be needed, at once of the trials `ended` before."""

    def __init__(
        self,
        run: Path,
        objectives: Sequence[Objective],
        ended: Iterable[TrialResult],
        keep: Callable[[list[TrialResult], Sequence[Objective]], set[int]] = keep_leading,
    ) -> None:
        """`keep` names the ended trials whose `best/` stays."""
        self.run = run
        self.objectives = objectives
        self.keep = keep
        self.ended = list(ended)
        self._remove(self.ended)

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Nothing to remove."""

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Nothing to remove."""

    def trial_ended(self, result: TrialResult) -> None:
        """Removes the trial's `last/`, and `best/` of trials that are not kept."""
        self.ended.append(result)
        self._remove([result])

    def _remove(self, just_ended: list[TrialResult]) -> None:
        for result in just_ended:
            shutil.rmtree(trial_folder(self.run, result.number) / "last", ignore_errors=True)
        for number in {result.number for result in self.ended} - self.keep(self.ended, self.objectives):
            shutil.rmtree(trial_folder(self.run, number) / "best", ignore_errors=True)
