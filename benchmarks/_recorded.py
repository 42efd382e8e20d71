"""Learning curves recorded from the Fashion CNN as one more task of search_efficiency.py."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from raysweep.config import Budget
from raysweep.study import Study
from search_spaces.fashion_cnn import STUDY

NUM_EPOCHS = 15
RECORDS = Path(__file__).with_name("fashion_cnn_curves.jsonl")


def build_study(trials: int, seed: int) -> Study:
    """The study `fashion_cnn` with 15 epochs for every trial: no choice of epochs, no early stopping."""
    fixed = STUDY.with_settings(
        [f"training.epochs={NUM_EPOCHS}", "training.early_stopping_patience=none", "training.precision=bf16"]
    )
    return dataclasses.replace(fixed, points=(), budget=Budget(trials=trials), seed=seed)


def load_records(path: Path = RECORDS) -> list[dict[str, Any]]:
    """What record_curves.py wrote, a row a configuration."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
