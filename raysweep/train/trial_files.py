"""Keeps the files of a trial up to date as it trains: its history each epoch, weights and checkpoint by time."""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from raysweep import atomic_files
from raysweep.errors import StorageError
from raysweep.run_folder import TrialFolder
from raysweep.storage_faults import is_full, patiently
from raysweep.train import checkpoint
from raysweep.train.report import StopTrial
from raysweep.train.state import TrainState


class TrialFiles:
    """Writes `metrics.jsonl` each epoch, `best/` and `last/` every `period_s` seconds and after the last epoch.

    A context in which the trial trains. What is best stays in memory until it is written, at the latest when the trial
    is stopped: it then has its `best/`, and where it goes on no more `last/` may be older. One that fails, or whose
    process is killed, loses the epochs since `last/`: where it goes on they are trained again. A storage that takes
    nothing for a while is waited for.
    """

    def __init__(self, folder: TrialFolder, state: TrainState, period_s: float) -> None:
        self._folder = folder
        self._state = state
        self._period_s = period_s
        self._written = time.monotonic()
        self._is_current = False
        """Whether the checkpoint is of the last epoch."""
        self._best: dict[str, torch.Tensor] | None = None
        """Weights of the best epoch that are to be written; none: they are."""

    def __enter__(self) -> "TrialFiles":
        if self._state.epoch:  # the process before may have ended between the checkpoint and the history
            self._save_history()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StopTrial) and self._state.history:
            self._save_best()
            if error.goes_on and not self._is_current:
                patiently(self._save_checkpoint)
            self._save_history()

    def epoch_ended(self, improved: bool, finished: bool, samples: npt.NDArray[np.uint8] | None) -> None:
        """Writes what is due after an epoch; only then is the epoch reported.

        Raises:
            StorageError: the storage takes nothing for too long.
        """
        is_due = self._is_current = finished or time.monotonic() - self._written >= self._period_s
        patiently(lambda: atomic_files.make_folder(self._folder.path))
        if improved:
            weights = checkpoint.collect_weights(self._state.best_modules())
            self._best = weights if is_due else {name: weight.clone() for name, weight in weights.items()}
        if is_due:
            self._save_best()
            patiently(self._save_checkpoint)
            self._written = time.monotonic()
        self._save_history(sync=is_due)
        self._save_samples(samples)

    def _save_best(self) -> None:
        if self._best is None:
            return
        best, facts = self._best, {"epoch": self._state.best_epoch, "value": self._state.best_value}
        patiently(lambda: checkpoint.save_tensors(self._folder.weights, best, facts))
        self._best = None

    def _save_checkpoint(self) -> None:
        """Writes the checkpoint and keeps the one before; on a full disk that makes room for it."""
        folder = self._folder
        try:
            checkpoint.save_checkpoint(folder.checkpoint, self._state, folder.previous_checkpoint)
        except StorageError as fault:
            if not (is_full(fault) and folder.checkpoint.is_file() and folder.previous_checkpoint.is_file()):
                raise
            atomic_files.remove(folder.previous_checkpoint)
            checkpoint.save_checkpoint(folder.checkpoint, self._state, folder.previous_checkpoint)

    def _save_history(self, sync: bool = True) -> None:
        rows: list[Mapping[str, Any]] = list(self._state.history)
        patiently(lambda: atomic_files.write_json_lines(self._folder.metrics, rows, sync=sync))

    def _save_samples(self, images: npt.NDArray[np.uint8] | None) -> None:
        """Writes what the task shows of an epoch as a square grid."""
        if images is None:
            return
        side = math.isqrt(len(images))
        rows = [np.concatenate(images[row * side : (row + 1) * side], axis=1) for row in range(side)]
        grid = Image.fromarray(np.concatenate(rows).squeeze())
        path = self._folder.sample(self._state.epoch)
        patiently(lambda: atomic_files.write_atomically(path, lambda temporary: grid.save(temporary, format="png")))
