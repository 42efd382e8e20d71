"""Chooses which checkpoints stay on disk: of a search those that lead or are compared in the end."""

import shutil
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from raysweep.config import KEEP_LEADING
from raysweep.data.images import space_evenly
from raysweep.run_folder import SearchFolder
from raysweep.search.observer import Observer
from raysweep.search.ranking import find_front, rank_results
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.study import Study
from raysweep.trial_result import BASELINE, TrialResult

KEEP_FRONT = 10
"""Trials on the Pareto front whose models stay, from one end of it to the other."""
NUM_DRAWN = 1000
"""Points by which `count_kept` knows the groups of a space."""

Keep = Callable[[Sequence[TrialResult]], set[int]]
"""Chooses which trials keep their `best/`: takes the ended ones that still have it, and returns numbers."""


def keep_for_search(study: Study, num_leading: int = KEEP_LEADING) -> Keep:
    """Keeps the baseline, the trials that lead, some on the Pareto front, and what the final evaluation compares."""

    def keep(ended: Sequence[TrialResult]) -> set[int]:
        leading = rank_results(ended, study.objectives)[:num_leading]
        front = find_front(ended, study.objectives)
        spread = [front[place] for place in space_evenly(len(front), KEEP_FRONT)]
        return {BASELINE, *(result.number for result in (*leading, *spread, *_find_pinned(ended, study)))}

    return keep


def keep_all(ended: Sequence[TrialResult]) -> set[int]:
    """Keeps every trial's, as of finalists, of which each seed is measured in the end, and of replays."""
    return {result.number for result in ended}


def count_kept(study: Study, num_leading: int = KEEP_LEADING) -> int:
    """Counts the models that `keep_for_search` keeps at most; of groups those that random points meet."""
    points = list(study.starting_points)
    if study.space:
        space = UnitCube(study.space, study.conditions)
        points += map(space.to_params, space.draw(np.random.default_rng(0), NUM_DRAWN))
    groups = {study.trial_config(point, BASELINE).task.comparison_group for point in points}
    on_front = KEEP_FRONT if study.second_objective else 0
    return min(study.budget.trials, 1 + num_leading + on_front + len(groups - {None}))


def _find_pinned(ended: Sequence[TrialResult], study: Study) -> list[TrialResult]:
    """Finds the best trial of each group that the final evaluation compares, of equals the earliest."""
    best: dict[Hashable, TrialResult] = {}
    for result in sorted(ended, key=lambda result: result.number):
        if result.state == "FAIL" or result.value is None:  # what failed may be of another space
            continue
        group = study.trial_config(result.params, result.number).task.comparison_group
        if group is not None and (group not in best or study.objective.is_better(result.value, best[group].value)):
            best[group] = result
    return list(best.values())


class Retention(Observer):
    """Removes checkpoints that will not be needed, of the trials `ended` before at once.

    Of a trial that failed all stays: nobody has decided that it is not wanted.
    """

    def __init__(self, folder: SearchFolder, ended: Iterable[TrialResult], keep: Keep) -> None:
        self.folder = folder
        self.keep = keep
        self.with_model: list[TrialResult] = []
        """Trials that ended well whose `best/` is there."""
        self._take(ended)

    def trial_ended(self, result: TrialResult) -> None:
        """Removes the trial's `last/` if it ended well, and `best/` of trials that are not kept."""
        self._take([result])

    def _take(self, ended: Iterable[TrialResult]) -> None:
        for result in ended:
            if result.state == "FAIL":
                continue
            folder = self.folder.trial(result.number)
            shutil.rmtree(folder.last, ignore_errors=True)
            if folder.best.is_dir():
                self.with_model.append(result)
        kept = self.keep(self.with_model)
        for result in self.with_model:
            if result.number not in kept:
                shutil.rmtree(self.folder.trial(result.number).best, ignore_errors=True)
        self.with_model = [result for result in self.with_model if result.number in kept]
