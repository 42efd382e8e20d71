"""The final evaluation of a run: the best model and the baseline meet the sealed test split."""

from pathlib import Path
from typing import Any

import torch

from raysweep import atomic_files as files
from raysweep.data.images import PreparedData
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel, load_model
from raysweep.evaluate.test_split import open_test
from raysweep.registry import load_object
from raysweep.run_folder import FINALISTS, RunFolder, trial_folder
from raysweep.train import checkpoint
from raysweep.trial_result import BASELINE


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
    evaluate = load_object(best.config.task.evaluation)
    figures: dict[str, Any] = evaluate(
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


def _history(run: Path, model: StoredModel) -> list[dict[str, float]]:
    return files.read_json_lines(RunFolder(run).find_training(model.number, model.finalist).path / "metrics.jsonl")
