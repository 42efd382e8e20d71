"""Finds images by a table beside them: labels.csv, .tsv or .parquet with path, label and, if wished, split."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raysweep.data.records import WHOLE_FILE, Records, Source, Split
from raysweep.data.sources.splits import SPLIT_NAMES, complete_splits
from raysweep.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv", ".parquet")
NAMES = tuple(f"labels{suffix}" for suffix in TABLES)
UNLABELLED = "unlabelled"
"""The one class of images without labels."""


def find_labels_file(folder: Path) -> Path | None:
    """Finds the table of a folder; none: it has none.

    Raises:
        DataError: it has two.
    """
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} must have one of {', '.join(NAMES)}, got {len(found)}; remove all but one")
    return found[0] if found else None


def load_labels_file(path: Path, *, name: str, split_seed: int) -> Source:
    """Finds the images that a table lists, in the folder that it lies in.

    Raises:
        DataError: it cannot be read, lacks a column, or names a file that is not there, lies elsewhere or comes twice.
    """
    table = _read(path)
    is_labelled = "label" in table
    labels = list(table["label"]) if is_labelled else [UNLABELLED] * len(table)
    classes = tuple(sorted(set(labels)))
    numbers = {label: number for number, label in enumerate(classes)}
    pool = Records(
        paths=_resolve(path, list(table["path"])),
        members=np.full(len(table), WHOLE_FILE, dtype=np.int64),
        labels=np.array([numbers[label] for label in labels], dtype=np.int64),
    )
    found: dict[Split, Records] = {"train": pool}
    if "split" in table:
        splits = np.array([_name_split(path, value) for value in table["split"]])
        found = {split: pool.take(np.flatnonzero(splits == split)) for split in dict.fromkeys(splits.tolist())}
        if "train" not in found:
            raise DataError(f"{path} has no image of the train split, but {', '.join(found)}; add some")
        for split, some in found.items():
            if unknown := sorted({classes[label] for label in set(some.labels) - set(found["train"].labels)}):
                raise DataError(f"{path} has labels in {split} that no image of train has: {', '.join(unknown)}")
    records, notes = complete_splits(str(path), found, classes, split_seed, has_splits="split" in table)
    no_classes = f"{path} has {f'one label, {classes[0]}' if is_labelled else 'no column label'}"
    return Source(
        name=name,
        classes=classes,
        records=records,
        notes=notes,
        no_classes="" if len(classes) > 1 else f"{no_classes}: classification needs at least 2 classes",
    )


def _read(path: Path) -> "pd.DataFrame":
    """Reads the table as text: its columns path, label and split, without rows that are empty."""
    import pandas as pd  # slow

    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path).astype("string")
        else:
            table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype="string", keep_default_na=False)
    except (OSError, ValueError) as error:  # of pandas, its parsers and Arrow
        raise DataError(f"{path} cannot be read as a table: {error}") from None
    table.columns = pd.Index([str(column).strip().lower() for column in table.columns])
    table = table.rename(columns={"file_name": "path", "filename": "path", "image": "path", "class": "label"})
    if "path" not in table or table.columns.has_duplicates:
        raise DataError(
            f"{path} must have the columns path, label (without it images are unlabelled) and, if wished, split, each "
            f"once, got {', '.join(table.columns)}"
        )
    for column in ("path", "label", "split"):
        if column in table and (empty := int((table[column].fillna("") == "").sum())):
            raise DataError(f"{path} must have a {column} in each row, {empty:,} of {len(table):,} have none")
    if not len(table):
        raise DataError(f"{path} lists no images")
    return table


def _name_split(path: Path, value: str) -> Split:
    if (split := SPLIT_NAMES.get(value.strip().lower())) is None:
        raise DataError(f"a split in {path} must be one of {', '.join(SPLIT_NAMES)}, got {value!r}")
    return split


def _resolve(path: Path, names: list[str]) -> list[str]:
    """Finds the files of a table; a table that was downloaded must not reach files that its author did not send."""
    folder = path.parent.resolve()
    files = [(folder / name).resolve() for name in names]
    if outside := [name for name, file in zip(names, files, strict=True) if not file.is_relative_to(folder)]:
        raise DataError(
            f"a path in {path} must lead to a file in its folder, {len(outside):,} do not, as {outside[0]!r}; put the "
            "table into the folder that holds all images"
        )
    if missing := [name for name, file in zip(names, files, strict=True) if not file.is_file()]:
        raise DataError(
            f"{path} names {len(missing):,} of {len(names):,} files that are not there, as {missing[0]!r}; paths are "
            f"relative to {folder}"
        )
    [(first, times)] = Counter(files).most_common(1)
    if times > 1:
        raise DataError(f"{path} must name each file once, {first} comes {times} times; remove rows")
    return [str(file) for file in files]
