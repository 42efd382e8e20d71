"""Which checkpoints stay on disk: of the leading trials, the Pareto front, the baseline and running trials."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.config import Objective
from raysweep.evaluate.final import trial_folder
from raysweep.search.ranking import find_front, rank_results
from raysweep.search.strategy import BASELINE, TrialResult

KEEP_LEADING = 3


class Retention:
    """Follows a search as an observer and removes what will not be needed, at once of the trials `ended` before."""

    def __init__(self, run: Path, objectives: Sequence[Objective], ended: Iterable[TrialResult]) -> None:
        self.run = run
        self.objectives = objectives
        self.ended = list(ended)
        self._remove(self.ended)

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Nothing to remove."""

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Nothing to remove."""

    def trial_ended(self, result: TrialResult) -> None:
        """Removes the trial's `last/`, and `best/` of trials that no longer lead or are on the front."""
        self.ended.append(result)
        self._remove([result])

    def _remove(self, just_ended: list[TrialResult]) -> None:
        for result in just_ended:
            shutil.rmtree(trial_folder(self.run, result.number) / "last", ignore_errors=True)
        leading = rank_results(self.ended, self.objectives)[:KEEP_LEADING]
        front = find_front(self.ended, self.objectives)
        kept = {BASELINE, *(result.number for result in (*leading, *front))}
        for number in {result.number for result in self.ended} - kept:
            shutil.rmtree(trial_folder(self.run, number) / "best", ignore_errors=True)
