"""Finds images in folders: `train|val|test/<class>/*.jpg|png`, or `<class>/*.jpg|png` without splits."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from raysweep.data.records import SPLITS, WHOLE_FILE, Records, Source, Split, split_stratified
from raysweep.data.sources.image_files import Listing, describe_others, list_folders, list_images
from raysweep.errors import DataError

OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
VAL_SHARE_OF_TRAIN = 0.20
VAL_SHARE = TEST_SHARE = 0.15
Listings = Mapping[str, Listing]
"""What is in each folder of a folder of classes, by name."""


def load_folder(folder: Path, *, name: str, split_seed: int, synthetic: bool = False) -> Source:
    """Finds a folder's images. Without `val`, 20 % of train is held out; without splits, 70/15/15 of all.

    Raises:
        DataError: no images, no test split beside train, a class that only the test split has, a class that is another
            by a link.
    """
    _check_split_names(folder)
    splits: dict[Split, Path] = {split: folder / split for split in SPLITS if (folder / split).is_dir()}
    if splits:
        listings = {split: _list_classes(path) for split, path in splits.items()}
        classes, found = _take_splits(folder, splits, listings, split_seed)
        notes = _describe_folder(folder, listings.values(), has_splits=True)
    else:
        listing = _list_classes(folder)
        classes, found = _split_classes(folder, listing, split_seed)
        notes = _describe_folder(folder, [listing], has_splits=False)
    for split, records in found.items():
        if not len(records):
            raise DataError(f"{folder}/{split} has no images; add some, or remove the folder")
    return Source(name=name, classes=classes, records=found, synthetic=synthetic, notes=notes)


def _split_classes(folder: Path, listings: Listings, seed: int) -> tuple[tuple[str, ...], dict[Split, Records]]:
    """Splits a folder of classes 70/15/15."""
    classes = _class_names(listings)
    _check_classes(folder, classes, listings)
    pool = _take_records(listings, classes)
    _check_counts(folder, pool, classes, 3)
    rest, test = split_stratified(pool.labels, TEST_SHARE, seed)
    remaining = pool.take(rest)
    train, val = split_stratified(remaining.labels, VAL_SHARE / (1 - TEST_SHARE), seed)
    return classes, {"train": remaining.take(train), "val": remaining.take(val), "test": pool.take(test)}


def _take_splits(
    folder: Path, splits: Mapping[Split, Path], listings: Mapping[Split, Listings], seed: int
) -> tuple[tuple[str, ...], dict[Split, Records]]:
    """Takes the splits that a folder has; without `val` a part of `train` is held out."""
    if missing := {"train", "test"} - set(splits):
        raise DataError(
            f"{folder} has {', '.join(splits)}/ but no {' and no '.join(sorted(missing))}/: a folder has train "
            "and test (val is optional), or no split folders at all, and is then split 70/15/15"
        )
    _refuse_links(splits.values())
    classes = _class_names(listings["train"])
    _check_classes(splits["train"], classes, listings["train"])
    for split, path in splits.items():
        if unknown := sorted(set(_class_names(listings[split])) - set(classes)):
            raise DataError(f"{path} has classes that train/ has no images of: {', '.join(unknown)}")
    found = {split: _take_records(listings[split], classes) for split in splits}
    if "val" not in found:
        _check_counts(splits["train"], found["train"], classes, 2)
        train, val = split_stratified(found["train"].labels, VAL_SHARE_OF_TRAIN, seed)
        found |= {"val": found["train"].take(val), "train": found["train"].take(train)}
    return classes, found


def find_class_folder(folder: Path) -> Path:
    """Finds the folder of classes: this one, or where a chain of single sub-folders leads (archives often nest)."""
    while not any((folder / split).is_dir() for split in SPLITS):
        inside = list_folders(folder)
        if len(inside) != 1 or not list_folders(inside[0]):  # the last folder of a chain is a class
            break
        if folder.resolve().is_relative_to(inside[0].resolve()):  # a link back
            break
        folder = inside[0]
    return folder


def _check_split_names(folder: Path) -> None:
    """Refuses `Train`, `validation` and the like, which would pass for classes or be left out."""
    for path in list_folders(folder):
        lower = path.name.lower()
        split = lower if lower in SPLITS else OTHER_SPLIT_NAMES.get(lower, path.name)
        if split != path.name:
            raise DataError(
                f"{path} looks like a split: split folders are named train, val and test; rename it to {split}"
            )


def _check_classes(folder: Path, classes: tuple[str, ...], listings: Listings) -> None:
    """Refuses a folder without images or with one class, and says where they may be."""
    if not classes:
        loose = list_images(folder, deep=False)
        others = sum((listing.others for listing in listings.values()), start=Counter(loose.others))
        fault = "no images in folders of their classes" if loose.images else "no images"
        hint = f" ({describe_others(others)}: convert them)" if others else ""
        if loose.images:
            hint = f" ({len(loose.images)} lie in it itself: one class of the folder above, {folder.parent}?)"
        raise DataError(
            f"{folder} has {fault}{hint}: expected train|val|test/<class>/*.jpg|png, <class>/*.jpg|png "
            "or idx files; give another folder with --data, or --data sample"
        )
    if len(classes) < 2:
        place = folder / classes[0]
        inside = [path.name for path in list_folders(place)]
        cause = f"give another folder with --data: the one whose folders are the classes, {folder}/<class>/*.jpg|png"
        if set(SPLITS) & {name.lower() for name in inside} or len(inside) > 1:
            cause = f"{place} has folders of its own, {', '.join(inside[:5])}: if these are the classes, --data {place}"
        others = sum((listing.others for listing in listings.values()), start=Counter())
        hint = f" ({describe_others(others)})" if others else ""
        raise DataError(f"{folder} has one class, {classes[0]}{hint}: classification needs at least 2; {cause}")
    _refuse_links(folder / name for name in classes)


def _refuse_links(folders: Iterable[Path]) -> None:
    """Refuses two folders that are one by a link."""
    seen: dict[Path, Path] = {}
    for path in folders:
        other = seen.setdefault(path.resolve(), path)
        if other != path:
            raise DataError(f"{other} and {path} are the same folder by a link: no image may be in both; remove one")


def _check_counts(folder: Path, pool: Records, classes: tuple[str, ...], least: int) -> None:
    for label, count in zip(*np.unique(pool.labels, return_counts=True), strict=True):
        if count < least:
            raise DataError(f"each class of {folder} needs at least {least} images, {classes[label]} has {count}")


def _list_classes(folder: Path) -> Listings:
    return {path.name: list_images(path) for path in list_folders(folder)}


def _class_names(listings: Listings) -> tuple[str, ...]:
    return tuple(sorted(name for name, listing in listings.items() if listing.images))


def _take_records(listings: Listings, classes: tuple[str, ...]) -> Records:
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for _, path in (listings[name].images if name in listings else ())
    ]
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


def _describe_folder(folder: Path, listings: Iterable[Listings], *, has_splits: bool) -> tuple[str, ...]:
    """Says what a user may not expect of a folder that is taken."""
    notes = []
    others: Counter[str] = Counter()
    for listing in (listing for classes in listings for listing in classes.values()):
        others += listing.others
    if others:
        notes.append(f"{folder} has {describe_others(others)}; they are left out")
    beside = [split for split in SPLITS if split != folder.name and (folder.parent / split).is_dir()]
    if not has_splits and folder.name in SPLITS and beside:
        notes.append(
            f"{folder} is split 70/15/15, and {', '.join(beside)} beside it left out; to use them, --data "
            f"{folder.parent}"
        )
    nested = [] if has_splits else [path for path in list_folders(folder) if _has_splits(path)]
    if nested:
        notes.append(
            f"{nested[0]} has train/ and test/ of its own, and is taken as one class; if it is a data set, --data "
            f"{nested[0]}"
        )
    return tuple(notes)


def _has_splits(folder: Path) -> bool:
    return all((folder / split).is_dir() for split in ("train", "test"))
