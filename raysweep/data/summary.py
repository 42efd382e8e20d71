"""Sums up what was decoded: the facts of a data set, the files left out, and when those are too many."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from raysweep import atomic_files
from raysweep.data.duplicates import Content, choose_left_out, describe_duplicates, find_duplicates
from raysweep.data.groups import describe_groups, group_images
from raysweep.data.images import DataInfo, ImageSet, Rows, SkippedFile
from raysweep.data.records import SPLITS, Source, Split
from raysweep.errors import DataError


def summarise(
    source: Source,
    into: dict[Split, Path],
    reasons: dict[Split, list[str]],
    digests: dict[Split, list[str]],
    looks: dict[Split, list[bytes]],
) -> DataInfo:
    """Writes rows, labels and names of the images that are used, and returns the facts of the whole set.

    Those that cannot be decoded are left out, and of train and val those that a split which measures more has too.

    Raises:
        DataError: no training image of a class is left.
    """
    digest = hashlib.sha256()
    skipped: list[SkippedFile] = []
    decoded: dict[Split, Rows] = {}
    contents: list[Content] = []
    for split in SPLITS:
        records = source.records[split]
        bad = np.array([bool(reason) for reason in reasons[split]], dtype=bool)
        skipped += [
            SkippedFile(path=records.paths[row], split=split, reason=reasons[split][row]) for row in np.flatnonzero(bad)
        ]
        decoded[split] = np.flatnonzero(~bad)
        contents += [
            Content(
                digests[split][row], split, source.classes[records.labels[row]], records.name(row), looks[split][row]
            )
            for row in decoded[split].tolist()
        ]
    groups = find_duplicates(contents)
    used = _leave_out(source, decoded, choose_left_out(groups))
    for split, rows in used.items():
        records = source.records[split]
        np.save(into[split] / "rows.npy", rows)
        np.save(into[split] / "labels.npy", records.labels[rows])
        atomic_files.write_text(into[split] / "names.json", json.dumps([records.name(row) for row in rows.tolist()]))
        digest.update(split.encode())
        for row in rows:
            digest.update(f"{digests[split][row]} {source.classes[records.labels[row]]}\n".encode())
    classes, notes = source.classes, describe_duplicates(groups)
    if source.no_classes and all(len(rows) for rows in used.values()):
        classes, labels = group_images(into)
        notes += (describe_groups(len(classes)),)
        for split in SPLITS:
            np.save(into[split] / "labels.npy", labels[split])
    for split in SPLITS:
        ImageSet(into[split]).seal()
    return DataInfo(
        source=source.name,
        synthetic=source.synthetic,
        digest=digest.hexdigest(),
        classes=classes,
        num_train=len(used["train"]),
        num_val=len(used["val"]),
        num_test=len(used["test"]),
        skipped=tuple(skipped),
        notes=notes,
    )


def _leave_out(source: Source, rows: dict[Split, Rows], left_out: set[tuple[Split, str]]) -> dict[Split, Rows]:
    """Takes rows out of train and val."""
    if not left_out:
        return rows
    used = {
        split: np.array(
            [row for row in numbers.tolist() if (split, source.records[split].name(row)) not in left_out], int
        )
        for split, numbers in rows.items()
    }
    before, after = (set(source.records["train"].labels[some["train"]].tolist()) for some in (rows, used))
    if emptied := [source.classes[label] for label in sorted(before - after)]:
        raise DataError(
            f"every training image of {', '.join(emptied)} is in val or test too, so that nothing is left to learn it "
            "from; remove the copies, or give other images"
        )
    return used


def check_skipped(info: DataInfo, max_bad_fraction: float) -> None:
    """Raises DataError where more files were left out than are allowed for, or all of a split."""
    counts = {"train": info.num_train, "val": info.num_val, "test": info.num_test}
    total = sum(counts.values()) + len(info.skipped)
    share = len(info.skipped) / total
    shown = "".join(f"\n  {skipped.path}: {skipped.reason}" for skipped in info.skipped[:10])
    more = f"\n  and {len(info.skipped) - 10} more" if len(info.skipped) > 10 else ""
    if share > max_bad_fraction:
        raise DataError(
            f"{len(info.skipped)} of {total} files cannot be decoded ({share:.1%}), the limit is "
            f"{max_bad_fraction:.1%}; mend or remove them, or raise the limit with "
            f"--set data.max_bad_fraction={_round_up(share)}:{shown}{more}"
        )
    if empty := [split for split, count in counts.items() if not count]:
        raise DataError(f"no file of {' and '.join(empty)} can be decoded; mend them:{shown}{more}")


def _round_up(share: float) -> str:
    """Rounds a share in (0, 1] up to two significant digits."""
    digits = max(2, 1 - math.floor(math.log10(share)))
    return f"{math.ceil(share * 10**digits) / 10**digits:.{digits}f}"
