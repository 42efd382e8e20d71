"""Evaluates a run in the end: the best model and the baseline meet the sealed test split."""

from pathlib import Path
from typing import Any

import torch

from raysweep import atomic_files as files
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
) -> TestFigures:
    """Evaluates `best/` and the baseline of a run on its test images; writes `test/` and returns its figures.

    `data_root` may hold other data sets, such as images that a classifier is to reject.

    Raises:
        UsageError: the run has no best model.
        CorruptFileError: weights do not match their digest.
    """
    torch.set_num_threads(max(1, num_threads))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    best = load_model(run_folder.best.weights, run_folder.best.config, device)
    baseline = load_baseline(run_folder, best, device)
    images, opening = open_test(test_folder, run_folder, reason)
    histories = {
        f"best (trial {best.number})": _load_history(run_folder, best),
        f"baseline (trial {baseline.number})": _load_history(run_folder, baseline),
    }
    note = "synthetic data: drawn by raysweep, not photographs" if best.info.synthetic else ""
    if opening > 1:
        note = f"{note}; " * bool(note) + f"the test split of this run has been opened {opening} times"
    evaluate = load_object(best.config.task.evaluation)
    figures: dict[str, Any] = evaluate(
        FinalRun(
            best=best,
            baseline=baseline,
            test=images,
            data=data,
            run_folder=run_folder,
            folder=run_folder.test,
            data_root=data_root,
            histories=histories,
            note=note,
        )
    )
    return TestFigures.from_json({**figures, "openings": opening, "synthetic": best.info.synthetic})


def load_baseline(run_folder: RunFolder, best: StoredModel, device: torch.device) -> StoredModel:
    """Loads the baseline's model; where the baseline trial failed, the best model stands in for it.

    Beside a finalist it is the best of the baseline's seeds, too.
    """
    folder = run_folder.trial(BASELINE) if best.finalist is None else run_folder.finalists.baseline
    if best.number == BASELINE or not folder.weights.is_file():
        return best
    return load_model(folder.weights, folder.config, device)


def _load_history(run_folder: RunFolder, model: StoredModel) -> list[dict[str, float]]:
    return files.read_json_lines(run_folder.find_training(model.number, model.finalist).metrics)
