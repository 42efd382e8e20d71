"""Reads what a trial wrote of each of its epochs, and whether weights are of one of these."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep import file_guard
from raysweep.atomic_files import Json
from raysweep.config import require
from raysweep.errors import CorruptFileError
from raysweep.file_guard import FROM_BACKUP
from raysweep.run_folder import TrialFolder

History = list[dict[str, float]]
"""The metrics of each epoch, the first one first."""
SPEED = "train/images_per_s"
"""The metric of how many images the workers trained on in a second, validation apart."""
DATA_WAIT = "train/data_wait_s"
"""The metric of how many seconds of an epoch the training waited for its batches."""
NUM_PARTS = "train/parts_per_step"
"""The metric of epochs that were trained in parts."""
OF_THE_LOOP = frozenset({SPEED, DATA_WAIT, NUM_PARTS})
"""What the loop itself reports of any task."""
OF_MACHINES = frozenset({SPEED, DATA_WAIT, "model/latency_ms"})
"""Metrics that measure time: they are never the same twice."""


def load_history(folder: TrialFolder) -> History:
    """Loads the metrics of a trial's epochs; empty where none has ended.

    Raises:
        CorruptFileError: the file is damaged.
    """
    return file_guard.read_json_lines(folder.metrics, "the metrics of a trial", check=_check_metrics)


def check_weights(history: History, path: Path, facts: Mapping[str, Any]) -> None:
    """Checks that weights with these facts are of an epoch of the history.

    Raises:
        CorruptFileError: they are of another training, or the history at `path` lacks epochs.
    """
    value, epoch = facts["value"], facts["epoch"]
    if [row.get("epoch") for row in history] != list(range(1, len(history) + 1)):
        raise CorruptFileError(f"{path} must have each epoch once, in order; {FROM_BACKUP}")
    if epoch > len(history) or value not in history[epoch - 1].values():
        raise CorruptFileError(
            f"{path} must have the epoch of the best weights beside it, {epoch} with the objective {value}, got "
            f"{len(history)} others: one of them is of another trial; {FROM_BACKUP}"
        )


def _check_metrics(row: Json) -> None:
    for name, value in row.items():
        require(isinstance(value, int | float) and math.isfinite(value), f"{name} must be a number", value)
