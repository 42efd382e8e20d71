"""Evaluates a run in the end: the best model and the baseline meet the sealed test split."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from raysweep.atomic_files import Json
from raysweep.config import check_config
from raysweep.cores import keep_freed_memory
from raysweep.data.images import PreparedData
from raysweep.errors import CorruptFileError
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.part_clock import PartClock
from raysweep.evaluate.stored_model import StoredModel, load_best, load_model
from raysweep.evaluate.test_figures import TestFigures
from raysweep.evaluate.test_split import open_test
from raysweep.kept_model import check_model, seal_model
from raysweep.registry import load_object
from raysweep.run_folder import ModelFolder, RunFolder
from raysweep.train.history import History, check_weights, load_history
from raysweep.trial_record import load_trial
from raysweep.trial_result import BASELINE


def evaluate_final(
    run_folder: RunFolder,
    test_folder: Path,
    *,
    data: PreparedData,
    reason: str,
    num_threads: int,
    data_root: Path | None,
    baseline_failure: str | None = None,
    seeds: Mapping[str, Sequence[int]] | None = None,
) -> TestFigures:
    """Evaluates `best/` and the baseline of a run on its test images; writes `test/` and returns its figures.

    `data_root` may hold other data sets, such as images that a classifier is to reject. `baseline_failure` says why
    the baseline failed, where it did: it then has no model, and there is no lift. `seeds`: as of `FinalRun`.

    Raises:
        UsageError: the run has no best model.
        CorruptFileError: weights do not match their digest.
    """
    torch.set_num_threads(max(1, num_threads))
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    best = load_best(run_folder, device, with_detector=False)
    notes = ["synthetic data: drawn by raysweep, not photographs"] * best.info.synthetic
    baseline = None
    if baseline_failure is None:
        try:
            baseline = load_baseline(run_folder, best, device)
            baseline_failure = None if baseline else "its model is not in the run's folder"
        except CorruptFileError as error:  # the best model is evaluated all the same
            baseline_failure = str(error)
    models = {"best": best} if baseline is None else {"best": best, "baseline": baseline}
    histories = _load_histories(run_folder, models, notes)
    images, opening = open_test(test_folder, run_folder, reason)
    if opening > 1:
        notes.append(f"the test split of this run has been opened {opening} times")
    evaluate = load_object(best.config.task.evaluation)
    with PartClock() as clock:
        figures: Json = evaluate(
            FinalRun(
                best=best,
                baseline=baseline,
                baseline_failure=baseline_failure,
                seeds=seeds or {},
                test=images,
                data=data,
                run_folder=run_folder,
                folder=run_folder.test,
                data_root=data_root,
                histories=histories,
                note="; ".join(notes),
                clock=clock,
            )
        )
    seal_model(run_folder.best)  # with what the evaluation has fitted to it
    facts: Json = {
        "baseline_failure": baseline_failure,
        "openings": opening,
        "synthetic": best.info.synthetic,
        "durations_s": clock.durations_s,
    }
    made: TestFigures = check_config(
        lambda: TestFigures.from_json({**figures, **facts}), f"{best.config.task.evaluation} must return test figures"
    )
    return made


def load_baseline(run_folder: RunFolder, best: StoredModel, device: torch.device) -> StoredModel | None:
    """Loads the baseline's model; none where it has none. Beside a finalist it is the best of the baseline's seeds."""
    if best.number == BASELINE:
        return best
    folder = run_folder.trial(BASELINE) if best.finalist is None else run_folder.finalists.baseline
    if not os.path.lexists(folder.weights):
        return None
    if isinstance(folder, ModelFolder):
        check_model(folder)
    else:
        load_trial(folder)
    baseline = load_model(folder.weights, folder.config, device)
    training = run_folder.find_training(BASELINE, baseline.finalist)
    try:
        history = load_history(training)
    except CorruptFileError:
        history = []  # which is said where it is missed
    if history:
        check_weights(history, training.metrics, baseline.facts)
    return baseline


def _load_histories(run_folder: RunFolder, models: Mapping[str, StoredModel], notes: list[str]) -> dict[str, History]:
    """Loads the metrics of each epoch, for figures; where they are damaged that is noted, and there is no curve."""
    histories = {}
    for name, model in models.items():
        training = run_folder.find_training(model.number, model.finalist)
        try:
            history = load_history(training)
            check_weights(history, training.metrics, model.facts)
            histories[f"{name} (trial {model.number})"] = history
        except CorruptFileError as error:
            notes.append(f"no curve of the {name}: {error}")
    return histories
