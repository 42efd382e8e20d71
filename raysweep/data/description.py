"""Says for a person what is in a source of images: counts, sizes, formats, and what may spoil a search."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.data.duplicates import describe_duplicates
from raysweep.data.images import space_evenly
from raysweep.data.records import SPLITS, Source
from raysweep.data.survey import SIDE, Survey, look_at

SHEET_COLUMNS, SHEET_ROWS = 12, 24
FEW = 20
"""A class with fewer training images is told."""
FEW_VAL = 200
"""With fewer validation images it is told that chance takes part in the choice of the best trial."""
UNEVEN = 10
"""Times that the largest class has of the smallest's training images, from which on it is told."""
TINY = 0.5
"""Share of the side that a model sees, below which images are told to be tiny."""


def describe_classes(source: Source) -> Iterator[str]:
    """Says which classes have few training images, and whether they are uneven, a sentence each."""
    counts = _count_classes(source, "train")
    if source.no_classes or not counts:
        return
    if few := [f"{name} {count}" for name, count in counts.items() if count < FEW]:
        more = f" and {len(few) - 10} more" * (len(few) > 10)
        yield f"under {FEW} training images have {', '.join(few[:10])}{more}: figures of these classes are uncertain"
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] >= UNEVEN * counts[smallest]:
        yield (
            f"classes are uneven: {largest} has {counts[largest]:,} training images, {smallest} {counts[smallest]:,}; "
            "accuracy says little of the small ones: look at val/macro_f1, and search task.class_weighting"
        )


def describe_choice(source: Source) -> Iterator[str]:
    """Says, in a sentence, whether chance takes part in the choice of the best trial: few images make it.

    The half width of the 95 % interval of a share of n is at most 1.96 * sqrt(0.25 / n), by the normal approximation.
    """
    num_val = len(source.records["val"])
    if 0 < num_val < FEW_VAL:
        yield (
            f"only {num_val} validation images choose the best trial: an accuracy on them is uncertain by up to "
            f"{1.96 * (0.25 / num_val) ** 0.5:.2f}, so that chance takes part; more images help, and so do "
            "--finalists 3 --seeds 3"
        )


def describe_images(seen: Survey, image_size: int | None = None, channels: int = 3) -> Iterator[str]:
    """Says, a sentence each, whether images are grey only or tiny for a model that sees such a side and channels."""
    num = len(seen.seen)
    if num and channels == 3 and seen.num_grey == num and "idx" not in seen.formats:
        yield f"all {num:,} images looked at are grey: --set data.channels=1 (with a normalization for it) may do"
    if num and image_size is not None:
        tiny = int((seen.sides.min(axis=1) < TINY * image_size).sum())
        if tiny > num / 2:
            median = int(np.median(seen.sides.min(axis=1)))
            yield (
                f"{tiny:,} of {num:,} images looked at are tiny for data.image_size={image_size}: the median of their "
                f"shorter sides is {median} pixels; a smaller data.image_size costs less and shows as much"
            )


def describe_survey(source: Source, seen: Survey) -> str:
    """Says all that was seen, in lines."""
    counts = {split: _count_classes(source, split) for split in SPLITS}
    width = max(len("class"), *(len(name) for name in source.classes))
    lines = [f"{source.name}: {_describe_num(source)}", "", f"{'class':<{width}}  " + _columns(SPLITS)]
    lines += [f"{name:<{width}}  " + _columns(counts[split][name] for split in SPLITS) for name in source.classes]
    lines += [f"{'all':<{width}}  " + _columns(counts[split].total() for split in SPLITS), ""]
    if seen.seen:
        sides = seen.sides
        middle, order = np.median(sides, axis=0), np.prod(sides, axis=1).argsort()
        least, most = sides[order[0]], sides[order[-1]]
        lines.append(
            f"sizes    {middle[0]:.0f} x {middle[1]:.0f} pixels (median), from {least[0]} x {least[1]} to "
            f"{most[0]} x {most[1]}"
        )
        lines.append("formats  " + ", ".join(f"{kind} {count:,}" for kind, count in seen.formats.most_common()))
        lines.append(f"grey     {seen.num_grey:,}")
    faults = [f"  {name}: {fault}" for name, fault in _list_faults(source, seen).items()]
    lines += [f"broken   {len(faults):,}", *faults[:10], *([f"  and {len(faults) - 10:,} more"] * (len(faults) > 10))]
    lines += [f"repeated {len(seen.groups):,}", ""]
    return "\n".join([*lines, *(f"note: {note}" for note in list_notes(source, seen))]).rstrip()


def list_notes(source: Source, seen: Survey) -> list[str]:
    """Lists what a user may not expect, a sentence each."""
    classes = [source.no_classes] if source.no_classes else [*describe_classes(source), *describe_choice(source)]
    return [*source.notes, *classes, *describe_images(seen), *describe_duplicates(seen.groups)]


def describe_json(source: Source, seen: Survey, drawn: dict[str, list[str]]) -> str:
    """Says the same as JSON, with the images that are `drawn` on the contact sheet, row by row."""
    values: dict[str, Any] = {
        "source": source.name,
        "classes": {split: dict(_count_classes(source, split)) for split in SPLITS},
        "formats": dict(seen.formats),
        "median_size": np.median(seen.sides, axis=0).tolist() if seen.seen else None,
        "num_grey": seen.num_grey,
        "broken": _list_faults(source, seen),
        "same": [[content.name for content in group] for group in seen.groups],
        "notes": list_notes(source, seen),
        "contact_sheet": drawn,
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def save_contact_sheet(path: Path, source: Source) -> dict[str, list[str]]:
    """Draws training images, a row for each class: the test split stays sealed; returns their names, row by row."""
    from raysweep.evaluate.figures.images import save_rows  # slow: imports matplotlib

    train = source.records["train"]
    labels = space_evenly(len(source.classes), SHEET_ROWS).tolist()
    sheet = np.full((len(labels), SHEET_COLUMNS, SIDE, SIDE, 3), 255, dtype=np.uint8)
    drawn: dict[str, list[str]] = {}
    for row, label in enumerate(labels):
        members = np.flatnonzero(train.labels == label)
        places = members[space_evenly(len(members), SHEET_COLUMNS)].tolist()
        drawn[source.classes[label]] = [train.name(place) for place in places]
        for column, place in enumerate(places):
            _, sheet[row, column] = look_at(train, place)
    counts = _count_classes(source, "train")
    names = [f"{source.classes[label]} ({counts[source.classes[label]]:,})" for label in labels]
    left = f"; {len(labels)} of {len(source.classes)} classes" * (len(labels) < len(source.classes))
    save_rows(path, sheet, names=names, title=source.name, subtitle=f"training images, by class{left}")
    return drawn


def _list_faults(source: Source, seen: Survey) -> dict[str, str]:
    """Lists what is wrong with each broken file, by its name."""
    return {
        source.records[split].name(row): look.fault
        for split in SPLITS
        for row, look in enumerate(seen.looks[split])
        if look.fault
    }


def _count_classes(source: Source, split: str) -> Counter[str]:
    """Counts the images of each class in a split, in the order of the classes."""
    labels = source.records[split].labels  # type: ignore[index]
    numbers = np.bincount(labels, minlength=len(source.classes))
    return Counter(dict(zip(source.classes, numbers.tolist(), strict=True)))


def _describe_num(source: Source) -> str:
    num = sum(len(source.records[split]) for split in SPLITS)
    return f"{num:,} images, " + ("unlabelled" if source.no_classes else f"{len(source.classes)} classes")


def _columns(values: Any) -> str:
    return "".join(f"{value:>9,}" if isinstance(value, int) else f"{value:>9}" for value in values)
