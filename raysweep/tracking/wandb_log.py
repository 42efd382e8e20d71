"""Reads W&B's own files of earlier sessions: which epochs a run has already, and whether it has its end.

A file is a LevelDB log: blocks of 32 KiB with records, each with its checksum, length and type before it, and the
longer ones in parts. W&B syncs the parts of a run one after the other: what stands in two of them is there twice.
"""

import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made as it is imported

_HEADER = struct.Struct("<IHB")
_BLOCK_BYTES = 32768
_FULL, _LAST = 1, 4


def find_last_step(files: Iterable[Path]) -> int:
    """Returns the last step of all parts of a run; 0: they have none."""
    steps = (_read_step(record) for path in files for record in read_records(path))
    return max((step for step in steps if step is not None), default=0)


def has_summary(files: Iterable[Path], key: str) -> bool:
    """Tells whether a part of a run has a value of that name in its summary."""
    summaries = (record.summary for path in files for record in read_records(path) if record.HasField("summary"))
    return any(item.key == key for summary in summaries for item in summary.update)


def remove_empty(files: Iterable[Path]) -> None:
    """Removes the folders of parts in which no run begins, as a kill leaves them; for one, W&B syncs no run at all."""
    for path in files:
        if not any(record.HasField("run") for record in read_records(path)):
            shutil.rmtree(path.parent, ignore_errors=True)


def read_records(path: Path) -> Iterator[Record]:
    """Reads a file's records, up to the first that is damaged or not yet whole."""
    parts = b""
    for kind, data in _read_parts(path.read_bytes()):
        parts += data
        if kind in (_FULL, _LAST):
            yield Record.FromString(parts)
            parts = b""


def _read_parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Splits a file, after its own header, into types and contents."""
    start = _HEADER.size
    while start + _HEADER.size <= len(content):
        if _BLOCK_BYTES - start % _BLOCK_BYTES < _HEADER.size:
            start += _BLOCK_BYTES - start % _BLOCK_BYTES  # padding
            continue
        checksum, length, kind = _HEADER.unpack_from(content, start)
        start += _HEADER.size
        data = content[start : start + length]
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        yield kind, data
        start += length


def _read_step(record: Record) -> int | None:
    """Returns the step of a row of the history; none: the record is something else."""
    return record.history.step.num if record.HasField("history") else None
