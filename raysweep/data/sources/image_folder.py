"""Finds images in folders: `train|val|test/<class>/*.jpg|png`, or `<class>/*.jpg|png` without splits."""

import os
from pathlib import Path

import numpy as np

from raysweep.data.records import SPLITS, WHOLE_FILE, Records, Source, Split, split_stratified
from raysweep.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png"}
OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
VAL_SHARE_OF_TRAIN = 0.20
VAL_SHARE = TEST_SHARE = 0.15


def load_folder(folder: Path, *, name: str, split_seed: int, synthetic: bool = False) -> Source:
    """Finds a folder's images. Without `val`, 20 % of train is held out; without splits, 70/15/15 of all.

    Raises:
        DataError: no images, no test split beside train, a class that only the test split has.
    """
    found: dict[Split, Records]
    splits: dict[Split, Path] = {split: folder / split for split in SPLITS if (folder / split).is_dir()}
    _check_split_names(folder)
    if not splits:
        classes = _class_names(folder)
        if not classes:
            raise DataError(
                f"{folder} has no images: expected train|val|test/<class>/*.jpg|png, <class>/*.jpg|png "
                "or idx files; give another folder with --data, or --data sample"
            )
        pool = _list_images(folder, classes)
        _check_counts(folder, pool, classes, 3)
        rest, test = split_stratified(pool.labels, TEST_SHARE, split_seed)
        remaining = pool.take(rest)
        train, val = split_stratified(remaining.labels, VAL_SHARE / (1 - TEST_SHARE), split_seed)
        found = {"train": remaining.take(train), "val": remaining.take(val), "test": pool.take(test)}
    else:
        if missing := {"train", "test"} - set(splits):
            raise DataError(
                f"{folder} has {', '.join(splits)}/ but no {' and no '.join(sorted(missing))}/: a folder has train "
                "and test (val is optional), or no split folders at all, and is then split 70/15/15"
            )
        classes = _class_names(splits["train"])
        for path in splits.values():
            if unknown := sorted(set(_class_names(path)) - set(classes)):
                raise DataError(f"{path} has classes that train/ has no images of: {', '.join(unknown)}")
        found = {split: _list_images(path, classes) for split, path in splits.items()}
        if "val" not in found:
            _check_counts(splits["train"], found["train"], classes, 2)
            train, val = split_stratified(found["train"].labels, VAL_SHARE_OF_TRAIN, split_seed)
            found |= {"val": found["train"].take(val), "train": found["train"].take(train)}
    if len(classes) < 2:
        raise DataError(f"{folder} has one class, {classes}: classification needs at least 2")
    for split, records in found.items():
        if not len(records):
            raise DataError(f"{folder}/{split} has no images; add some, or remove the folder")
    return Source(name=name, classes=classes, records=found, synthetic=synthetic)


def _check_split_names(folder: Path) -> None:
    """Refuses `Train`, `validation` and the like, which would pass for classes or be left out."""
    for path in sorted(folder.iterdir()):
        lower = path.name.lower()
        split = lower if lower in SPLITS else OTHER_SPLIT_NAMES.get(lower, path.name)
        if split != path.name and path.is_dir():
            raise DataError(
                f"{path} looks like a split: split folders are named train, val and test; rename it to {split}"
            )


def find_class_folder(folder: Path) -> Path:
    """Finds the folder of classes: this one, or where a chain of single sub-folders leads (archives often nest)."""
    while not any((folder / split).is_dir() for split in SPLITS):
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
        if len(inside) != 1:
            break
        folder = inside[0]
    return folder


def _check_counts(folder: Path, pool: Records, classes: tuple[str, ...], least: int) -> None:
    for label, count in zip(*np.unique(pool.labels, return_counts=True), strict=True):
        if count < least:
            raise DataError(f"each class of {folder} needs at least {least} images, {classes[label]} has {count}")


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and any(_image_files(path))))


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _list_images(folder: Path, classes: tuple[str, ...]) -> Records:
    files = [(str(path.resolve()), label) for label, name in enumerate(classes) for path in _image_files(folder / name)]
    for path, _ in files:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise DataError(f"file names must be UTF-8, got {os.fsencode(path)!r}; rename it") from None
    return Records(
        paths=[path for path, _ in files],
        members=np.full(len(files), WHOLE_FILE, dtype=np.int64),
        labels=np.array([label for _, label in files], dtype=np.int64),
    )
