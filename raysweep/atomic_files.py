"""Writing so that a crash leaves the old file or the new one: temp + fsync + rename."""

import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raysweep.storage_faults import guard_writing

Json = dict[str, Any]
"""An object of a JSON file: its keys belong to the file's format, its values are plain."""


def write_atomically(
    path: Path, write: Callable[[Path], None], *, size_bytes: int | None = None, previous: Path | None = None
) -> None:
    """Calls `write` with a temporary path beside `path`, syncs what it wrote and renames it to `path`.

    The file that was there becomes `previous`, if that is given. Its folder is made.

    Raises:
        StorageError: the storage does not take it; `size_bytes`, where that is known, is said.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with guard_writing(path, size_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if previous is not None and path.exists():
                path.replace(previous)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that a killed process left in a folder, by the names that writing gives them."""
    with guard_writing(folder):
        for path in (*folder.glob(".*.????????"), *folder.glob(".tmp*")):  # of safetensors the second
            path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder unless it is there, but none above it: where a disk is no longer mounted, its files must not go to
    the disk below.

    Raises:
        StorageError: the storage does not take it.
    """
    with guard_writing(path):
        path.mkdir(exist_ok=True)


def remove(path: Path) -> None:
    """Removes a file, if it is there.

    Raises:
        StorageError: the storage does not let it go.
    """
    with guard_writing(path):
        path.unlink(missing_ok=True)


def touch(path: Path) -> None:
    """Makes an empty file.

    Raises:
        StorageError: the storage does not take it.
    """
    with guard_writing(path):
        path.touch()


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    content = text.encode()
    write_atomically(path, lambda temporary: _write(temporary, content), size_bytes=len(content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, rows: list[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def read_json_lines(path: Path) -> list[Json]:
    """Returns the objects in a file of one JSON object a line; empty when there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
