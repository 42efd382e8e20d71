"""Which checkpoints stay on disk: the leading trials', the baseline's and those of running trials."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.config import Objective
from raysweep.evaluate.final import trial_folder
from raysweep.search.strategy import BASELINE, TrialResult

KEEP_LEADING = 3


class Retention:
    """Follows a search as an observer and removes what will not be needed."""

    def __init__(self, run: Path, objective: Objective) -> None:
        self.run = run
        self.objective = objective
        self.ended: list[TrialResult] = []

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Nothing to remove."""

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Nothing to remove."""

    def trial_ended(self, result: TrialResult) -> None:
        """Removes the trial's `last/`, and `best/` of trials that no longer lead."""
        shutil.rmtree(trial_folder(self.run, result.number) / "last", ignore_errors=True)
        self.ended.append(result)
        complete = [r for r in self.ended if r.state == "COMPLETE" and r.value is not None]
        complete.sort(key=lambda r: (r.value or 0.0) * (-1 if self.objective.direction == "maximize" else 1))
        kept = {r.number for r in complete[:KEEP_LEADING]} | {BASELINE}
        for number in {r.number for r in self.ended} - kept:
            shutil.rmtree(trial_folder(self.run, number) / "best", ignore_errors=True)
