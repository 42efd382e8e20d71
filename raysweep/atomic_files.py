"""Writes files so that a crash leaves the old one or the new one: temp + fsync + rename.

JSON that is to be read back carries a checksum of its content, under CHECKSUM.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raysweep.errors import StorageError
from raysweep.storage_faults import guard_writing

Json = dict[str, Any]
"""An object of a JSON file: its keys belong to the file's format, its values are plain."""
CHECKSUM = "checksum"
"""Key of a JSON object's checksum: of all its other keys and values."""


def write_atomically(
    path: Path,
    write: Callable[[Path], None],
    *,
    size_bytes: int | None = None,
    previous: Path | None = None,
    sync: bool = True,
) -> None:
    """Calls `write` with a temporary path beside `path`, syncs what it wrote and renames it to `path`.

    Without `sync` the file outlives the process that writes it, but not always a crash of the machine.
    The file that was there becomes `previous`, if that is given. Its folder is made. The file gets the mode that the
    umask and the folder's defaults give a new file, whatever mode `write` chose: safetensors writes files that only
    their owner reads, also where a whole group works in the storage.

    Raises:
        StorageError: the storage does not take it; `size_bytes`, where that is known, is said.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    if path.is_dir():
        raise StorageError(f"{path} must be a file that can be written, and a folder is there; move it away")
    with guard_writing(path, size_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(mode)
            if sync:
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


def rename_folder(temporary: Path, place: Path) -> None:
    """Renames a folder; where another run was first with the same content, its folder stays."""
    try:
        temporary.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def copy_file(source: Path, target: Path) -> None:
    """Copies a file, atomically."""
    write_atomically(target, lambda temporary: _copy(source, temporary))


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Writes `text` as UTF-8, atomically; `sync` as of `write_atomically`."""
    write_bytes(path, text.encode(), sync=sync)


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Writes `content`, atomically; `sync` as of `write_atomically`."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write, size_bytes=len(content), sync=sync)


def write_json(path: Path, value: Any, *, checksum: bool = False, sync: bool = True) -> None:
    """Writes `value` as indented JSON, atomically; `sync` as of `write_atomically`.

    checksum: it is an object that `file_guard.read_json` is to read back.

    NaN and infinity are refused (ValueError).
    """
    value = add_checksum(value) if checksum else value
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", sync=sync)


def write_json_lines(path: Path, rows: list[Mapping[str, Any]], *, sync: bool = True) -> None:
    """Writes one JSON object a line, each with its checksum, atomically; `sync` as of `write_atomically`."""
    text = "".join(json.dumps(add_checksum(row), allow_nan=False) + "\n" for row in rows)
    write_text(path, text, sync=sync)


def add_checksum(values: Mapping[str, Any]) -> Json:
    """Returns a JSON object with its checksum."""
    plain = json.loads(json.dumps(values))  # as it will be read: keys are text, tuples are lists
    return {**values, CHECKSUM: compute_checksum(plain)}


def compute_checksum(values: Mapping[str, Any]) -> str:
    """Computes the first 16 digits of SHA-256 of an object as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
