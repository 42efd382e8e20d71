"""Evaluates a run in the end: the best model and the baseline meet the sealed test split."""

from pathlib import Path

import torch

from raysweep import atomic_files
from raysweep.atomic_files import Json
from raysweep.data.images import PreparedData
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel, load_model
from raysweep.evaluate.test_figures import TestFigures
from raysweep.evaluate.test_split import open_test
from raysweep.registry import load_object
from raysweep.run_folder import RunFolder
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
) -> TestFigures:
    """Evaluates `best/` and the baseline of a run on its test images; writes `test/` and returns its figures.

    `data_root` may hold other data sets, such as images that a classifier is to reject. `baseline_failure` says why
    the baseline failed, where it did: it then has no model, and there is no lift.

    Raises:
        UsageError: the run has no best model.
        CorruptFileError: weights do not match their digest.
    """
    torch.set_num_threads(max(1, num_threads))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    best = load_model(run_folder.best.weights, run_folder.best.config, device)
    baseline = None if baseline_failure else load_baseline(run_folder, best, device)
    if baseline is None:
        baseline_failure = baseline_failure or "its model is not in the run's folder"
    images, opening = open_test(test_folder, run_folder, reason)
    histories = {f"best (trial {best.number})": _load_history(run_folder, best)}
    if baseline is not None:
        histories[f"baseline (trial {baseline.number})"] = _load_history(run_folder, baseline)
    note = "synthetic data: drawn by raysweep, not photographs" if best.info.synthetic else ""
    if opening > 1:
        note = f"{note}; " * bool(note) + f"the test split of this run has been opened {opening} times"
    evaluate = load_object(best.config.task.evaluation)
    figures: Json = evaluate(
        FinalRun(
            best=best,
            baseline=baseline,
            baseline_failure=baseline_failure,
            test=images,
            data=data,
            run_folder=run_folder,
            folder=run_folder.test,
            data_root=data_root,
            histories=histories,
            note=note,
        )
    )
    facts = {"baseline_failure": baseline_failure, "openings": opening, "synthetic": best.info.synthetic}
    return TestFigures.from_json({**figures, **facts})


def load_baseline(run_folder: RunFolder, best: StoredModel, device: torch.device) -> StoredModel | None:
    """Loads the baseline's model; none where it has none. Beside a finalist it is the best of the baseline's seeds."""
    if best.number == BASELINE:
        return best
    folder = run_folder.trial(BASELINE) if best.finalist is None else run_folder.finalists.baseline
    return load_model(folder.weights, folder.config, device) if folder.weights.is_file() else None


def _load_history(run_folder: RunFolder, model: StoredModel) -> list[dict[str, float]]:
    return atomic_files.read_json_lines(run_folder.find_training(model.number, model.finalist).metrics)
