"""Writes files so that a crash leaves the old one or the new one, and reads them back without trusting them.

Writing is temp + fsync + rename. What is read back may be torn, flipped, of another version or somebody's trick: each
such file is read inside `guard`, which makes one sentence of whatever is wrong with it. JSON that is read back carries
a checksum of its content, under CHECKSUM; files from before there was one are read without.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from raysweep.errors import CorruptFileError, RaysweepError, RefusedFileError, StorageError, UsageError
from raysweep.storage_faults import guard_writing

T = TypeVar("T")
Json = dict[str, Any]
"""An object of a JSON file: its keys belong to the file's format, its values are plain."""
CHECKSUM = "checksum"
"""Key of a JSON object's checksum: of all its other keys and values."""
FROM_BACKUP = "take a copy of it from a backup"
MAX_REASON = 300
"""Letters of what a message says of damage: a decoder's own message may be a page."""


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

    checksum: it is an object that `read_json` is to read back.

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


@contextlib.contextmanager
def guard(path: Path | str, what: str, remedy: str = FROM_BACKUP) -> Iterator[None]:
    """Makes one sentence of whatever reading and decoding the file at `path` raises.

    what: is to be in the file: "the results of a run". remedy: what a user can do.

    Raises:
        CorruptFileError: the file is damaged or cannot be read.
    """
    try:
        yield
    except RaysweepError:
        raise
    except FileNotFoundError as error:
        raise CorruptFileError(f"{path}, {what}, is not there; {remedy}") from error
    except OSError as error:
        raise CorruptFileError(
            f"{path}, {what}, cannot be read: {error.strerror or error}; see that it is a file, that this user may "
            "read it and that its storage answers"
        ) from error
    except Exception as error:  # there is no end to what a decoder may raise on bytes that it was not written for
        raise CorruptFileError(f"{path} must hold {what}, got {_describe(error)}; {remedy}") from error


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Makes damage of what is a wrong value where users say it: within, no user has said it but a file.

    Raises:
        ValueError: for a UsageError.
        RefusedFileError: as it is.
    """
    try:
        yield
    except RefusedFileError:
        raise
    except UsageError as error:
        raise ValueError(str(error)) from error


def _describe(error: Exception) -> str:
    """Describes in a line what a decoder raised."""
    if isinstance(error, KeyError):
        return f"no {error}"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are no text, at {error.start}"
    if isinstance(error, RecursionError):
        return "a nesting without end"
    name, text = type(error).__name__, " ".join(str(error).split())
    if not text:
        return name
    return (text if type(error) is ValueError else f"{name}: {text}")[:MAX_REASON]


def read_json(path: Path, what: str, remedy: str, decode: Callable[[Json], T]) -> T:
    """Reads the JSON object in a file inside `guard`, and returns what `decode` makes of it.

    Raises:
        CorruptFileError: the file is damaged or cannot be read.
        RefusedFileError: it is whole, and `decode` does not take it.
    """
    with guard(path, what, remedy), decoding():
        values, is_whole = parse_object(path.read_bytes())
        decoded = decode(values)  # it may refuse code that the file names, which is more to the point than its checksum
        require_whole(is_whole)
        return decoded


def read_json_lines(
    path: Path,
    what: str = "one JSON object a line",
    remedy: str = FROM_BACKUP,
    check: Callable[[Json], object] = lambda row: None,
    *,
    is_growing: bool = False,
) -> list[Json]:
    """Reads a file of one JSON object a line inside `guard`; empty when there is no such file.

    check: raises an error on an object that the file cannot have. is_growing: a last line without an end is passed
    over, as it is being written, or was when its process was killed.

    Raises:
        CorruptFileError: the file is damaged or cannot be read.
    """
    if not os.path.lexists(path):
        return []
    rows: list[Json] = []
    with guard(path, what, remedy):
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
            if is_growing and not line.endswith(b"\n"):
                break
            try:
                row, is_whole = parse_object(line)
                require_whole(is_whole)
                check(row)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"line {number}: {_describe(error)}") from error
            rows.append(row)
    return rows


def read_names(path: Path, what: str, remedy: str = FROM_BACKUP) -> list[str]:
    """Reads a JSON array of texts inside `guard`.

    Raises:
        CorruptFileError: it is none, or cannot be read.
    """
    with guard(path, what, remedy):
        names = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("no list of texts")
        return names


def read_text(path: Path, what: str, remedy: str = FROM_BACKUP) -> str:
    """Reads a text inside `guard`.

    Raises:
        CorruptFileError: it is no text, or cannot be read.
    """
    with guard(path, what, remedy):
        return path.read_text(encoding="utf-8")


def read_bytes(path: Path, what: str, remedy: str = FROM_BACKUP) -> bytes:
    """Reads a file as it is inside `guard`.

    Raises:
        CorruptFileError: it cannot be read.
    """
    with guard(path, what, remedy):
        return path.read_bytes()


def parse_object(text: bytes) -> tuple[Json, bool]:
    """Parses a JSON object and takes out its checksum; returns also whether that, where there is one, is of the rest.

    Raises:
        ValueError: it is no JSON, no object, or has numbers that are none.
    """
    values = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_parse_finite)
    if not isinstance(values, dict):
        raise ValueError(f"no object but a {type(values).__name__}")
    checksum = values.pop(CHECKSUM, None)
    return values, checksum is None or checksum == compute_checksum(values)


def require_whole(is_whole: bool) -> None:
    """Raises ValueError on what is not as it was written."""
    if not is_whole:
        raise ValueError(
            f"another content than was written: its {CHECKSUM} does not match (who changed it on purpose removes that)"
        )


def check_version(name: str, values: Mapping[str, Any], newest: int) -> None:
    """Refuses a file of a later format; one without `schema_version` is from before there were versions.

    Raises:
        RefusedFileError: its version is above `newest`.
    """
    version = values.get("schema_version", newest)
    if version > newest:
        raise RefusedFileError(
            f"{name} must have schema version {newest} at most, got {version}: a later raysweep wrote it; install that"
        )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}")


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text}")
    return value
