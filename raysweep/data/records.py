"""Lists a source's images: paths and labels by split, before any is decoded."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from raysweep.errors import DataError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
WHOLE_FILE = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """Images of one split: row i is the image `members[i]` of `paths[i]`, of class `labels[i]`."""

    paths: list[str]
    members: npt.NDArray[np.int64]
    """Index in an idx file, or WHOLE_FILE."""
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """Names an image: its path, with `#index` for a member of an idx file."""
        return self.paths[row] if self.members[row] == WHOLE_FILE else f"{self.paths[row]}#{self.members[row]}"

    def take(self, rows: npt.NDArray[np.int64]) -> "Records":
        """Takes the records of some rows, in that order."""
        return Records(paths=[self.paths[row] for row in rows], members=self.members[rows], labels=self.labels[rows])


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A data set that was found: its classes and the records of each split."""

    name: str
    classes: tuple[str, ...]
    records: Mapping[Split, Records]
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    """What a user may not expect of it, a sentence each."""
    no_classes: str = ""
    """Says why its images cannot be classified, and what to do; empty: they can."""

    def __post_init__(self) -> None:
        odd = [name for name in self.classes if not name.isprintable()]
        if odd:  # they would move a terminal's cursor or break a table, or cannot be written as UTF-8
            raise DataError(f"the name of a class must be of printable characters, got {odd!r}; rename its folder")

    def fingerprint(self) -> str:
        """Hashes the files' names, sizes and times, no content: changes when one is added, removed or written."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in SPLITS:
            records = self.records[split]
            digest.update(split.encode() + records.members.tobytes() + records.labels.tobytes())
            for path in dict.fromkeys(records.paths):
                stat = Path(path).stat()
                digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def split_stratified(
    labels: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Splits rows into (kept, held out), each ascending: `share` of every class is held out, at least one image.

    Raises:
        DataError: a class has a single image, which cannot be on both sides.
    """
    random = np.random.default_rng(seed)
    held_out = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise DataError(f"each class needs at least 2 images to be split, class number {label} has 1; add some")
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held_out.append(random.permutation(rows)[:count])
    out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), out), out
