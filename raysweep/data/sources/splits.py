"""Finds the split folders of a folder under any usual name, and carves out of train what is missing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raysweep.data.records import SPLITS, Records, Split, split_stratified
from raysweep.data.sources.image_files import list_folders, list_images
from raysweep.errors import DataError

SPLIT_NAMES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What split folders, and splits in a table, are called, in lower case."""
TEST_SHARE = 0.15
VAL_SHARE = 0.15
"""Of all images, where neither is given."""
VAL_SHARE_OF_TRAIN = 0.20


def find_splits(folder: Path) -> dict[Split, Path]:
    """Finds a folder's split folders; none where folders so called are classes (`train` beside `bus`).

    Raises:
        DataError: two are one split, there is no train, or they are one folder by a link.
    """
    named = [(SPLIT_NAMES[path.name.lower()], path) for path in list_folders(folder) if is_split(path)]
    if not named or _are_classes(folder, [path for _, path in named]):
        return {}
    found: dict[Split, Path] = {}
    for split, path in named:
        if split in found:
            raise DataError(f"{found[split]} and {path} are both a {split} split; merge them, or rename one")
        found[split] = path
    if "train" not in found:
        raise DataError(
            f"{folder} has {', '.join(path.name for path in found.values())}/ but no train/: a folder has train (val "
            "and test are optional), or no split folders at all"
        )
    return {split: found[split] for split in SPLITS if split in found}


def is_split(folder: Path) -> bool:
    """Tells whether a folder is called as a split is."""
    return folder.name.lower() in SPLIT_NAMES


def _are_classes(folder: Path, named: list[Path]) -> bool:
    """Tells whether folders called as splits are classes: they have no folders, and others beside them have images."""
    others = [path for path in list_folders(folder) if path not in named]
    return (
        bool(others)
        and not any(list_folders(path) for path in named)
        and any(list_images(path).images for path in others)
    )


def complete_splits(
    place: str, found: Mapping[Split, Records], classes: tuple[str, ...], seed: int, *, has_splits: bool
) -> tuple[dict[Split, Records], tuple[str, ...]]:
    """Carves the splits that are missing out of train, by class and by seed, and says so.

    Raises:
        DataError: a class has too few images.
    """
    missing = [split for split in SPLITS if split not in found]
    if not missing:
        return dict(found), ()
    train, records, notes = found["train"], dict(found), []
    labels, counts = np.unique(train.labels, return_counts=True)
    for label, count in zip(labels, counts, strict=True):
        if count <= len(missing):
            raise DataError(
                f"each class of {place} needs at least {len(missing) + 1} images, {classes[label]} has {count}; add "
                "some, or remove its folder"
            )
    val_share = VAL_SHARE_OF_TRAIN if has_splits else VAL_SHARE / (1 - TEST_SHARE)
    for split, share in (("test", TEST_SHARE), ("val", val_share)):
        if split in missing:
            kept, out = split_stratified(train.labels, share, seed)
            records[split], train = train.take(out), train.take(kept)
            sealed = ", sealed" * (split == "test")
            notes.append(f"{len(out):,} for {split} ({len(out) / sum(counts):.0%}{sealed})")
    records["train"] = train
    said = f"{place} has no {' and no '.join(missing)} split: out of its {sum(counts):,} images are taken, by "
    return {split: records[split] for split in SPLITS}, (f"{said}class and data.split_seed, {' and '.join(notes)}",)
