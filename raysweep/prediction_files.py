"""Writes predictions to files: a table, embeddings, and copies of the images sorted by their labels."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from raysweep import atomic_files
from raysweep.errors import UsageError
from raysweep.predict import Prediction

COLUMNS = ("image", "label", "confidence", "rejected", "score", "threshold", "trusted", "error")
REJECTED = "_rejected"
"""Folder, beside those of the classes, for images that are of none of them."""


class CsvTable:
    """Writes a row for each file, with further pairs of label and confidence for the likeliest classes."""

    def __init__(self, file: IO[str], top_k: int) -> None:
        """Writes the header."""
        further = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("label", "confidence")]
        self._writer = csv.DictWriter(
            file, [*COLUMNS, *further], restval="", extrasaction="ignore", lineterminator="\n"
        )
        self._writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes what is said of a file."""
        further = {
            f"{name}_{rank}": value
            for rank, entry in enumerate(row.get("top", ()), start=1)
            for name, value in entry.items()
        }
        self._writer.writerow({**further, **row})


def check_sort_folder(folder: Path) -> None:
    """Refuses a folder that has something in it already.

    Raises:
        UsageError: it has, or it is no folder.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"--sort-into must be a new or an empty folder, got {folder}; give another one")


def sort_image(folder: Path, row: Mapping[str, Any]) -> Path:
    """Copies an image that was labelled into the folder of its class, or apart where it is rejected.

    Raises:
        StorageError: the storage does not take it.
    """
    image = Path(row["image"])
    place = folder / (REJECTED if row["rejected"] else name_folder(row["label"]))
    target = _find_name(place, image)
    atomic_files.copy_file(image, target)
    return target


def name_folder(label: str) -> str:
    """Names the folder of a class: no part of it leads elsewhere, and none is taken for that of rejected ones."""
    name = re.sub(r"[/\\\0]", "-", label).strip()
    return f"class {name}" if name in ("", ".", "..", REJECTED) else name


def save_embeddings(path: Path, predictions: Iterable[Prediction]) -> None:
    """Writes an .npz with `images`, the files' names, and `embeddings`, (N, D) float32; no file that failed is in it.

    Raises:
        StorageError: the storage does not take it.
    """
    kept = [(prediction.row["image"], prediction.embedding) for prediction in predictions]
    rows = [(name, embedding) for name, embedding in kept if embedding is not None]
    names = np.array([name for name, _ in rows], dtype=np.str_)
    embeddings = np.array([embedding for _, embedding in rows], dtype=np.float32)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, images=names, embeddings=embeddings)

    atomic_files.write_atomically(path, write)


def _find_name(place: Path, image: Path) -> Path:
    """Finds a free name for a copy: the image's own, then with a number where others have it.

    Goes to twice the number until one is free, then halves the way back: N equal names take N log N looks.
    """

    def number_name(number: int) -> Path:
        return place / (image.name if number == 1 else f"{image.stem}_{number}{image.suffix}")

    taken, free = 0, 1
    while number_name(free).exists():
        taken, free = free, 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        if number_name(middle).exists():
            taken = middle
        else:
            free = middle
    return number_name(free)
