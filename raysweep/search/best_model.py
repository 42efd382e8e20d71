"""Copies the model that a search found to `best/` of its run."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from raysweep import atomic_files
from raysweep.config import Objective
from raysweep.run_folder import ModelFolder, RunFolder, TrialFolder
from raysweep.search.finalists.statistics import Finalist, find_best_training, find_winner
from raysweep.search.ranking import rank_results
from raysweep.study import Study
from raysweep.trial_result import TrialResult


def keep_best(folder: RunFolder, study: Study, results: Sequence[TrialResult]) -> TrialResult:
    """Copies the best trial's model to `best/`."""
    best = rank_results(results, study.objectives)[0]
    _copy_model(folder.trial(best.number), folder.best)
    return best


def keep_winner(folder: RunFolder, objective: Objective, finalists: Sequence[Finalist]) -> TrialResult | None:
    """Copies the best seed's model of the winner to `best/`, and of the baseline to where the final evaluation looks.

    Returns how that seed ended, under the number that the configuration has in the search; none without a winner.
    """
    winner = find_winner(finalists, objective)
    if winner is None:
        return None
    for finalist, target in ((finalists[0], folder.finalists.baseline), (winner, folder.best)):
        best = find_best_training(finalist, objective)
        if best is not None:
            trained = folder.finalists.trial(best.number)
            _copy_model(trained, target, number=finalist.trial.number, finalist=best.number)
    assert best is not None
    return dataclasses.replace(best, number=winner.trial.number)


def _copy_model(trained: TrialFolder, target: ModelFolder, **numbers: int) -> None:
    """Copies a trial's best weights, and its configuration with other `numbers`."""
    atomic_files.write_atomically(target.weights, lambda path: _copy(trained.weights, path))
    config = json.loads(trained.config.read_text(encoding="utf-8"))
    atomic_files.write_json(target.config, {**config, **numbers})


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
