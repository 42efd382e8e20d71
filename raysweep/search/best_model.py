"""Copies the model that a search found to `best/` of its run."""

import dataclasses
import hashlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep import atomic_files, own_code
from raysweep.config import Objective, format_value
from raysweep.errors import CorruptFileError, StudyFailedError
from raysweep.file_guard import FROM_BACKUP
from raysweep.kept_model import seal_model
from raysweep.run_folder import ModelFolder, RunFolder, TrialFolder
from raysweep.search.finalists.statistics import Finalist, find_best_training, find_winner
from raysweep.search.ranking import rank_results
from raysweep.study import Study
from raysweep.train import checkpoint
from raysweep.trial_record import load_trial, save_config
from raysweep.trial_result import TrialResult

REMEDY = f"{FROM_BACKUP}, or remove `best/` of this trial: then --resume takes the best of the others"


def keep_best(folder: RunFolder, study: Study, results: Sequence[TrialResult]) -> TrialResult:
    """Copies the best trial's model to `best/`.

    A trial whose model is gone is passed over, and that is said: somebody has removed it, damaged as it was.

    Raises:
        CorruptFileError: the model is damaged.
        StudyFailedError: no complete trial has its model any more.
    """
    ranked = rank_results(results, study.objectives)
    for best in ranked:
        trained = folder.trial(best.number)
        if os.path.lexists(trained.weights):
            _copy_model(trained, folder.best, best)
            return best
        assert best.value is not None
        print(
            f"trial {best.number} led with {study.objective.metric} {format_value(best.value)}, but {trained.weights} "
            "is gone: the best of the others is taken",
            file=sys.stderr,
        )
    raise StudyFailedError(f"no complete trial in {folder.trials} has its model any more; {FROM_BACKUP}")


def keep_winner(folder: RunFolder, objective: Objective, finalists: Sequence[Finalist]) -> TrialResult | None:
    """Copies the best seed's model of the winner to `best/`, and of the baseline to where the final evaluation looks.

    Returns how that seed ended, under the number that the configuration has in the search; none without a winner.
    """
    winner = find_winner(finalists, objective)
    if winner is None:
        return None
    for finalist, target in ((finalists[0], folder.finalists.baseline), (winner, folder.best)):
        best = find_best_training(finalist, objective)
        if best is None:
            continue
        try:
            trained = folder.finalists.trial(best.number)
            _copy_model(trained, target, best, finalist_of=finalist.trial.number)
        except CorruptFileError as error:
            if finalist is winner:
                raise
            target.weights.unlink(missing_ok=True)
            print(f"the baseline has no model, and so there is no lift: {error}", file=sys.stderr)
    assert best is not None
    return dataclasses.replace(best, number=winner.trial.number)


def _copy_model(trained: TrialFolder, target: ModelFolder, result: TrialResult, finalist_of: int | None = None) -> None:
    """Copies a training's best weights and its configuration, and seals the folder.

    finalist_of: number of the trial in the search, for a training of finalists.

    The digest may only cover what is known to be whole, and to be of this training.
    """
    record = load_trial(trained, REMEDY)
    _, facts = checkpoint.load_tensors(trained.weights)
    _check_origin(trained, result, facts)
    target.detector.unlink(missing_ok=True)  # the evaluation fits one to these weights
    atomic_files.copy_file(trained.weights, target.weights)
    number, finalist = (result.number, None) if finalist_of is None else (finalist_of, result.number)
    save_config(target.config, number, record.config, record.info, record.params, finalist, record.number_format)
    for place, source in own_code.pack_files(record.config.task.code_references).items():
        path = target.code(Path(place).name, hashlib.sha256(source).hexdigest())
        atomic_files.make_folder(path.parent)
        atomic_files.write_bytes(path, source)
    seal_model(target)


def _check_origin(trained: TrialFolder, result: TrialResult, facts: Mapping[str, Any]) -> None:
    """Raises CorruptFileError on weights of another training, or of another epoch than its best."""
    value, epoch = facts.get("value"), facts.get("epoch")
    assert result.value is not None
    if epoch != result.best_epoch or not isinstance(value, int | float) or not math.isclose(value, result.value):
        raise CorruptFileError(
            f"{trained.weights} must be of epoch {result.best_epoch} with the objective {result.value}, as the trial "
            f"ended, got epoch {epoch} with {value}; {REMEDY}"
        )
