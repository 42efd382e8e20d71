"""Decodes a block of files, a run of rows of one split, for Ray Data."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.data.duplicates import hash_looks
from raysweep.data.files import ImageFiles
from raysweep.data.images import FILES
from raysweep.data.records import Split
from raysweep.storage_faults import guard_writing

PART_BYTES = 2**23
"""So many decoded bytes are in memory at a time, then written."""


def decode_block(block: pa.Table, *, into: dict[Split, Path]) -> pa.Table:
    """Reads and decodes a block, a row with its bounds, and fills it into the split's images.npy where there is one.

    Returns a row for each record: split, row, reason ("" when decoded), digest of the raw bytes, perceptual hash.
    """
    (bounds,) = block.to_pylist()
    rows = range(bounds["start"], bounds["stop"])
    files, path = ImageFiles(into[bounds["split"]] / FILES), into[bounds["split"]] / "images.npy"
    outcomes: list[tuple[str, str, bytes]] = []
    parts = _decode_parts(files, rows, outcomes)
    if path.exists():
        _write_parts(path, parts)
    else:
        for _ in parts:
            pass
    digests, reasons, looks = zip(*outcomes, strict=True)
    splits = pa.array([bounds["split"]] * len(rows), pa.string())
    return pa.table({"split": splits, "row": np.asarray(rows), "reason": reasons, "digest": digests, "looks": looks})


def _decode_parts(
    files: ImageFiles, rows: range, outcomes: list[tuple[str, str, bytes]]
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yields first row and images of each part of a block; appends digests, reasons and hashes to `outcomes`."""
    size = max(1, PART_BYTES // files.decoding.image_bytes)
    for part in (rows[start : start + size] for start in range(0, len(rows), size)):
        decoded = files.allocate(len(part))
        for row, room in zip(part, decoded, strict=True):
            digest, problem = files.decode(row, room)
            looks = hash_looks(room) if problem is None and files.is_whole(row) else b""
            outcomes.append((digest, "" if problem is None else str(problem), looks))
        yield part[0], decoded


def _write_parts(path: Path, parts: Iterator[tuple[int, npt.NDArray[np.uint8]]]) -> None:
    """Writes parts to their rows of images.npy."""
    offset, synced = np.load(path, mmap_mode="r").offset, []
    # Written bytes are synced beside the decoding: waiting for the disk at the end would leave the CPU idle.
    with guard_writing(path), path.open("r+b") as file, ThreadPoolExecutor(max_workers=1) as syncing:
        for first_row, decoded in parts:
            file.seek(offset + first_row * decoded[0].nbytes)
            file.write(decoded.data)
            file.flush()
            synced.append(syncing.submit(os.fdatasync, file.fileno()))
        for future in synced:
            future.result()  # a full or failing disk is an error of this block
