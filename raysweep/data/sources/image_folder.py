"""Finds images in folders: `train|val|test/<class>/*`, `<class>/*`, either without classes, or as a table says."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysweep.data.records import WHOLE_FILE, Records, Source, Split
from raysweep.data.sources.image_files import Listing, describe_others, list_folders, list_images
from raysweep.data.sources.labels_file import UNLABELLED, find_labels_file, load_labels_file
from raysweep.data.sources.splits import complete_splits, find_splits, is_split
from raysweep.errors import DataError

LAYOUT = "[train|val|test/]<class>/*.jpg, a labels.csv with path and label, or idx files"


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of classes: a split, or all there is."""

    folder: Path
    listings: Mapping[str, Listing]
    """What is in each folder of it, by name."""
    loose: Listing
    """What lies in it itself."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names the folders that have images."""
        return tuple(sorted(name for name, listing in self.listings.items() if listing.images))

    @property
    def others(self) -> Counter[str]:
        """Counts the files of other formats."""
        return sum((listing.others for listing in self.listings.values()), start=Counter(self.loose.others))

    def take(self, classes: tuple[str, ...]) -> Records:
        """Lists the images of each class; without classes all there are."""
        if not classes:
            return _take_records([self.loose, *(self.listings[name] for name in sorted(self.listings))], one_class=True)
        return _take_records(self.listings.get(name, Listing()) for name in classes)


def load_folder(folder: Path, *, name: str, split_seed: int, synthetic: bool = False) -> Source:
    """Finds a folder's images. Splits that are missing are carved out of train: 20 % for val, 15 % for test.

    Where there are no split folders, all is split 70/15/15. Images that lie in no folders of classes, or in one, are
    unlabelled. A table of labels comes first.

    Raises:
        DataError: no images, a class that only val or test has, one that has too few images or is another by a link.
    """
    if table := find_labels_file(folder):
        return load_labels_file(table, name=name, split_seed=split_seed)
    splits = find_splits(folder)
    _refuse_links(splits.values())
    parts = {split: _list_part(path) for split, path in splits.items()} or {"train": _list_part(folder)}
    classes = parts["train"].classes if len(parts["train"].classes) > 1 else ()
    _check_classes(parts, classes)
    found: dict[Split, Records] = {split: part.take(classes) for split, part in parts.items()}
    for split, some in found.items():
        if not len(some):
            raise DataError(f"{parts[split].folder} has no images: expected {LAYOUT}; {_describe_remedy(parts[split])}")
    names = classes or (UNLABELLED,)
    records, notes = complete_splits(str(folder), found, names, split_seed, has_splits=bool(splits))
    return Source(
        name=name,
        classes=names,
        records=records,
        synthetic=synthetic,
        notes=() if synthetic else (*notes, *_describe_rest(folder, parts, classes, has_splits=bool(splits))),
        no_classes="" if classes else _explain_no_classes(parts["train"]),
    )


def find_class_folder(folder: Path) -> Path:
    """Finds the folder of classes: this one, or where a chain of single sub-folders leads (archives often nest)."""
    while not any(is_split(path) for path in list_folders(folder)) and not find_labels_file(folder):
        inside = list_folders(folder)
        if len(inside) != 1 or not list_folders(inside[0]):  # the last folder of a chain is a class
            break
        if folder.resolve().is_relative_to(inside[0].resolve()):  # a link back
            break
        folder = inside[0]
    return folder


def _list_part(folder: Path) -> Part:
    listings = {path.name: list_images(path) for path in list_folders(folder)}
    return Part(folder, listings, list_images(folder, deep=False))


def _check_classes(parts: Mapping[Split, Part], classes: tuple[str, ...]) -> None:
    """Refuses classes that train does not have, and two that are one by a link."""
    train = parts["train"]
    _refuse_links(train.folder / name for name in classes or train.listings)
    for part in parts.values():
        if classes and (unknown := sorted(set(part.classes) - set(classes))):
            raise DataError(
                f"{part.folder} has classes that {train.folder.name}/ has no images of: {', '.join(unknown)}"
            )


def _describe_remedy(part: Part) -> str:
    """Says what to do about a folder without images."""
    others = f"{describe_others(part.others)}: convert them, or " if part.others else ""
    return f"{others}give another folder with --data, or --data sample"


def _explain_no_classes(part: Part) -> str:
    """Says why there is nothing to tell apart in a folder, and where that may be."""
    folder = part.folder
    if not part.classes:
        return (
            f"{folder} has no images in folders of their classes, and classification needs at least 2 classes "
            f"({len(part.loose.images)} lie in it itself: one class of the folder above, {folder.parent}?): expected "
            f"{LAYOUT}"
        )
    place = folder / part.classes[0]
    inside = [path.name for path in list_folders(place)]
    cause = f"give another folder with --data: the one whose folders are the classes, {folder}/<class>/*.jpg"
    if any(is_split(Path(name)) for name in inside) or len(inside) > 1:
        cause = f"{place} has folders of its own, {', '.join(inside[:5])}: if these are the classes, --data {place}"
    others = f" ({describe_others(part.others)})" if part.others else ""
    return f"{folder} has one class, {part.classes[0]}{others}: classification needs at least 2; {cause}"


def _refuse_links(folders: Iterable[Path]) -> None:
    """Refuses two folders that are one by a link."""
    seen: dict[Path, Path] = {}
    for path in folders:
        other = seen.setdefault(path.resolve(), path)
        if other != path:
            raise DataError(f"{other} and {path} are the same folder by a link: no image may be in both; remove one")


def _take_records(listings: Iterable[Listing], *, one_class: bool = False) -> Records:
    files = [(path, 0 if one_class else label) for label, listing in enumerate(listings) for _, path in listing.images]
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


def _describe_rest(
    folder: Path, parts: Mapping[Split, Part], classes: tuple[str, ...], *, has_splits: bool
) -> Iterable[str]:
    """Says what a user may not expect of a folder that is taken, a sentence each."""
    if others := sum((part.others for part in parts.values()), start=Counter()):
        yield f"{folder} has {describe_others(others)}; they are left out"
    loose = sum(len(part.loose.images) for part in parts.values())
    if classes and loose:
        yield f"{folder} has {loose:,} image{'s' * (loose != 1)} outside the folders of classes; they are left out"
    if has_splits:
        beside = [path for path in list_folders(folder) if not is_split(path) and list_images(path).images]
        if beside:
            yield f"{folder} has images beside its splits, in {', '.join(path.name for path in beside[:5])}; left out"
        return
    beside = [path for path in list_folders(folder.parent) if is_split(path) and path.name != folder.name]
    if is_split(folder) and beside:
        names = ", ".join(path.name for path in beside)
        yield f"{folder} is split, and {names} beside it left out; to use them, --data {folder.parent}"
    nested = next((path for path in list_folders(folder) if _has_splits(path)), None)
    if nested:
        yield (
            f"{nested} has train/ and test/ of its own, and is taken as one class; if it is a data set, --data {nested}"
        )


def _has_splits(folder: Path) -> bool:
    return all((folder / split).is_dir() for split in ("train", "test"))
