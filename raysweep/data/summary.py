"""Sums up what was decoded: the facts of a data set, the files left out, and when those are too many."""

import hashlib
import json
import math
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysweep import atomic_files
from raysweep.data.duplicates import Content, describe_duplicates
from raysweep.data.images import DataInfo, ImageSet, SkippedFile
from raysweep.data.records import SPLITS, WHOLE_FILE, Source, Split
from raysweep.errors import DataError


def summarise(
    source: Source,
    into: dict[Split, Path],
    reasons: dict[Split, list[str]],
    digests: dict[Split, list[str]],
) -> DataInfo:
    """Writes rows, labels and names of the decoded images, and returns the facts of the whole set."""
    digest = hashlib.sha256()
    skipped: list[SkippedFile] = []
    counts: dict[Split, int] = {}
    contents: list[Content] = []
    for split in SPLITS:
        records = source.records[split]
        bad = np.array([bool(reason) for reason in reasons[split]], dtype=bool)
        rows: npt.NDArray[np.int64] = np.flatnonzero(~bad)
        counts[split] = len(rows)
        skipped += [
            SkippedFile(path=records.paths[row], split=split, reason=reasons[split][row]) for row in np.flatnonzero(bad)
        ]
        names = [
            records.paths[row] if records.members[row] == WHOLE_FILE else f"{records.paths[row]}#{records.members[row]}"
            for row in rows
        ]
        np.save(into[split] / "rows.npy", rows)
        np.save(into[split] / "labels.npy", records.labels[rows])
        atomic_files.write_text(into[split] / "names.json", json.dumps(names))
        ImageSet(into[split]).seal()
        digest.update(split.encode())
        for row in rows:
            digest.update(f"{digests[split][row]} {source.classes[records.labels[row]]}\n".encode())
        labels = (source.classes[label] for label in records.labels[rows])
        contents += map(Content, (digests[split][row] for row in rows), repeat(split), labels, names)
    return DataInfo(
        source=source.name,
        synthetic=source.synthetic,
        digest=digest.hexdigest(),
        classes=source.classes,
        num_train=counts["train"],
        num_val=counts["val"],
        num_test=counts["test"],
        skipped=tuple(skipped),
        notes=describe_duplicates(contents),
    )


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
