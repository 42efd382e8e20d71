"""The paths in a run's folder."""

from pathlib import Path

from raysweep.evaluate.stored_model import StoredModel

FINALISTS = "finalists"
"""Folder in a run's: what a run has of its trials, of the best configurations trained again."""


def trial_folder(run: Path, number: int) -> Path:
    """Where a trial's files are."""
    return run / "trials" / f"{number:04d}"


def model_folder(run: Path, model: StoredModel) -> Path:
    """Where the files of the training are that the model is from."""
    if model.finalist is not None:
        return trial_folder(run / FINALISTS, model.finalist)
    return trial_folder(run, model.number)
