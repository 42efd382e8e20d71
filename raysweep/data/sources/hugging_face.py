"""Data sets of Hugging Face `datasets`, `hf:NAME` or `hf:FOLDER`: their files are written out once, as they are."""

import csv
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raysweep import atomic_files
from raysweep.announcement import announce
from raysweep.data.formats import FORMATS, START_BYTES, find_format
from raysweep.data.records import Source
from raysweep.data.sources import WAYS_ON
from raysweep.data.sources.download import shorten_error
from raysweep.data.sources.labels_file import load_labels_file
from raysweep.data.sources.splits import SPLIT_NAMES
from raysweep.errors import DataError
from raysweep.run_folder import cache_folder

TABLE = "labels.csv"


def load(argument: str, *, split_seed: int, storage: Path, data_root: Path | None) -> Source:
    """Writes out the images of a data set, NAME or FOLDER, and if wished #COLUMN of its labels; nothing is decoded.

    Raises:
        DataError: the extra is not installed, the data set cannot be had, or has no such columns.
    """
    name, _, column = argument.partition("#")
    splits = _load_splits(name)
    key = [argument, {split: rows._fingerprint for split, rows in splits.items()}]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder(storage) / "hugging-face" / digest
    if not folder.exists():
        with announce(f"the images of hf:{argument} to be written out"):
            _write_out(splits, column, argument, folder)
    return load_labels_file(folder / TABLE, name=f"hf:{argument}", split_seed=split_seed)


def _load_splits(name: str) -> Mapping[str, Any]:
    """Loads the splits that are called as splits are; a data set without is all train."""
    try:
        import datasets
    except ImportError:
        raise DataError("hf: needs the package datasets: pip install 'raysweep[hf]'") from None
    folder = Path(name).expanduser()
    is_saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
    try:
        found = datasets.load_from_disk(str(folder)) if is_saved else datasets.load_dataset(name)
    except Exception as error:  # the library raises its own, the hub's and plain exceptions
        raise DataError(f"hf:{name} cannot be had here: {shorten_error(error)}\n{WAYS_ON}") from error
    splits = found if isinstance(found, Mapping) else {"train": found}
    known = {split: rows for split, rows in splits.items() if split.lower() in SPLIT_NAMES}
    if not known:
        raise DataError(f"hf:{name} must have a split called {', '.join(SPLIT_NAMES)}, got {', '.join(splits)}")
    return known


def _write_out(splits: Mapping[str, Any], column: str, argument: str, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    try:
        with (temporary / TABLE).open("w", newline="") as file:
            table = csv.writer(file)
            image, label = _find_columns(next(iter(splits.values())).features, column, argument)
            table.writerow(["path", "label", "split"] if label else ["path", "split"])
            for split, rows in splits.items():
                for row in _write_split(rows, image, label, temporary, split):
                    table.writerow([*row, split])
        atomic_files.rename_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _find_columns(features: Mapping[str, Any], wanted: str, argument: str) -> tuple[str, str]:
    """Finds the column of images and that of labels; "": it has none."""
    import datasets

    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not images or (wanted and wanted not in features):
        known = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
        raise DataError(f"hf:{argument} must have a column of images{f' and {wanted}' * bool(wanted)}, got {known}")
    if len(labels) > 1 and not wanted and "label" not in labels:
        raise DataError(f"hf:{argument} has labels in {', '.join(labels)}; give one, as hf:{argument}#{labels[0]}")
    return images[0], wanted or ("label" if "label" in features else labels[0] if labels else "")


def _write_split(rows: Any, image: str, label: str, folder: Path, split: str) -> Iterator[list[str]]:
    """Writes each image as its own file; yields its path and label."""
    import datasets

    (folder / split).mkdir()
    kind = rows.features.get(label)
    for number, row in enumerate(rows.cast_column(image, datasets.Image(decode=False))):
        data = row[image]["bytes"]
        if data is None:
            data = Path(row[image]["path"]).read_bytes()
        found = find_format(data[:START_BYTES])
        suffix = FORMATS[found].suffixes[0] if found else ".unknown"
        path = Path(split) / f"{number:07d}{suffix}"
        (folder / path).write_bytes(data)
        if not label:
            yield [str(path)]
        else:
            yield [str(path), kind.int2str(row[label]) if isinstance(kind, datasets.ClassLabel) else str(row[label])]
