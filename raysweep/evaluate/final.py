"""The final evaluation of a run: the best model and the baseline meet the sealed test split."""

import importlib
from pathlib import Path
from typing import Any

import torch

from raysweep import files
from raysweep.data.images import PreparedData
from raysweep.evaluate.base import FinalRun
from raysweep.evaluate.sealed import open_test
from raysweep.evaluate.stored import StoredModel, load_model
from raysweep.train import checkpoint

BASELINE = 0
FINALISTS = "finalists"
"""Folder in a run's: what a run has of its trials, of the best configurations trained again."""


def evaluate_final(
    run: Path,
    test_folder: Path,
    *,
    data: PreparedData,
    reason: str,
    num_threads: int,
    data_root: Path | None,
) -> dict[str, Any]:
    """Evaluates `best/` and the baseline of a run on its test images; writes `test/` and returns its figures.

    `data_root` may hold other data sets, such as images that a classifier is to reject.

    Raises:
        UsageError: the run has no best model.
        CorruptFileError: weights do not match their digest.
    """
    torch.set_num_threads(max(1, num_threads))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    best = load_model(run / "best" / checkpoint.WEIGHTS, run / "best" / "config.json", device)
    baseline = load_baseline(run, best, device)
    images, opening = open_test(test_folder, run, reason)
    histories = {
        f"best (trial {best.number})": _history(run, best),
        f"baseline (trial {baseline.number})": _history(run, baseline),
    }
    note = "synthetic data: drawn by raysweep, not photographs" if best.info.synthetic else ""
    if opening > 1:
        note = f"{note}; " * bool(note) + f"the test split of this run has been opened {opening} times"
    module = importlib.import_module(f"raysweep.evaluate.{best.config.task.kind}")
    figures: dict[str, Any] = module.EVALUATE(
        FinalRun(
            best=best,
            baseline=baseline,
            test=images,
            data=data,
            run=run,
            folder=run / "test",
            data_root=data_root,
            histories=histories,
            note=note,
        )
    )
    return {**figures, "openings": opening, "synthetic": best.info.synthetic}


def load_baseline(run: Path, best: StoredModel, device: torch.device) -> StoredModel:
    """The baseline's model; where the baseline trial failed, the best model stands in for it.

    Beside a finalist it is the best of the baseline's seeds, too.
    """
    folder = trial_folder(run, BASELINE)
    weights, config = folder / "best" / checkpoint.WEIGHTS, folder / "config.json"
    if best.finalist is not None:
        folder = run / FINALISTS / "baseline"
        weights, config = folder / checkpoint.WEIGHTS, folder / "config.json"
    if best.number == BASELINE or not weights.is_file():
        return best
    return load_model(weights, config, device)


def trial_folder(run: Path, number: int) -> Path:
    """Where a trial's files are."""
    return run / "trials" / f"{number:04d}"


def model_folder(run: Path, model: StoredModel) -> Path:
    """Where the files of the training are that the model is from."""
    if model.finalist is not None:
        return trial_folder(run / FINALISTS, model.finalist)
    return trial_folder(run, model.number)


def _history(run: Path, model: StoredModel) -> list[dict[str, float]]:
    return files.read_json_lines(model_folder(run, model) / "metrics.jsonl")
