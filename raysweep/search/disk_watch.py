"""Watches while trials run whether the storage has room for their next checkpoints."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from raysweep.errors import StorageError
from raysweep.run_folder import TrialFolder
from raysweep.storage_faults import PATIENCE_S, format_bytes, guard_writing, say

PERIOD_S = 3.0
FLOOR_BYTES = 8_000_000
"""What the Optuna study, the results and their figures may take beside checkpoints."""
NUM_LAST = 2
"""Checkpoints of a trial at least: the last and the one that is being written; the one before goes where need be."""
NUM_BEST = 2
"""Models of a trial: the best and the one that is being written."""


class DiskWatch:
    """Knows whether the disk of a folder has room for the trials that write there, and for one more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lack: str | None = None
        """Why no more trial may start now; none: there is room."""
        self.is_full = False
        """Whether even the trials that run lack room."""
        self._lacks_since = 0.0
        self._is_told = False
        self._next = 0.0
        self._last_bytes = 0
        self._best_bytes = 0

    def look(self, running: Sequence[TrialFolder]) -> None:
        """Looks every PERIOD_S; says on stderr when there is no room for those that run, and when there is again.

        Raises:
            StorageError: the disk cannot be asked.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PERIOD_S
        free = self.count_free()
        for_running, for_one_more = self.count_needed(running)
        if free >= for_running + for_one_more:
            if self._is_told:
                say(f"the disk of {self.folder} has room for checkpoints again: trials start")
            self.lack, self._is_told, self.is_full = None, False, False
            return
        if self.lack is None:
            self._lacks_since = now
        self.lack = (
            f"the disk of {self.folder} must have room for the checkpoints to come, "
            f"{format_bytes(for_running + for_one_more)}, got {format_bytes(free)} free; free space"
        )
        self.is_full = free < for_running
        if self.is_full:
            self.tell()

    def count_free(self) -> int:
        """Counts the free bytes of the disk.

        Raises:
            StorageError: it is not there.
        """
        with guard_writing(self.folder):
            return shutil.disk_usage(self.folder).free

    def tell(self) -> None:
        """Says on stderr, once, that no trial starts."""
        if self.lack is not None and not self._is_told:
            self._is_told = True
            say(f"{self.lack}; until then no trial starts")

    def check_patience(self) -> None:
        """Ends the wait for space.

        Raises:
            StorageError: there has been none for PATIENCE_S.
        """
        if self.lack is not None and time.monotonic() - self._lacks_since >= PATIENCE_S:
            raise StorageError(self.lack)

    def count_needed(self, running: Sequence[TrialFolder]) -> tuple[int, int]:
        """Counts the bytes that running trials, and all else, may write still, and those that one more trial may.

        A checkpoint is taken to be as large as the largest so far.
        """
        last = [(_size(trial.checkpoint), _size(trial.previous_checkpoint)) for trial in running]
        best = [_size(trial.weights) for trial in running]
        self._last_bytes = max([self._last_bytes, *(size for sizes in last for size in sizes)])
        self._best_bytes = max([self._best_bytes, *best])
        whole = NUM_LAST * self._last_bytes + NUM_BEST * self._best_bytes
        present = [sum(sizes) + size for sizes, size in zip(last, best, strict=True)]
        return FLOOR_BYTES + sum(max(0, whole - size) for size in present), whole


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is not there, or is being replaced
        return 0
