"""Tells faults of the storage - full, read-only, not reachable - from other errors, and waits for them to pass."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from raysweep.errors import StorageError

PATIENCE_S = 30.0
"""How long an outage of the storage is waited for, however many writes it meets."""
PAUSE_S = 0.5
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
OUT_OF_REACH = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT, errno.EHOSTDOWN}
)
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EEXIST})
"""Of a folder that is not there, or no folder."""
OF_DISKS = FULL | {errno.EROFS, errno.EIO, errno.ESTALE}
"""Where no other cause is likely, wherever such an error comes up."""
OF_FILES = OF_DISKS | READ_ONLY | OUT_OF_REACH | GONE
"""Where the cause is the storage if a file of its own is concerned."""

_outage_began: float | None = None
"""When this process met the outage that lasts still."""


@contextlib.contextmanager
def guard_writing(path: Path, size_bytes: int | None = None) -> Iterator[None]:
    """Turns an error of the file system into a StorageError while `path`, of `size_bytes` if known, is written."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_FILES:  # none, of Pillow: an image that it cannot encode
            raise
        raise StorageError(describe_fault(error, path, size_bytes)) from error


@contextlib.contextmanager
def guard_work(*folders: Path) -> Iterator[None]:
    """Turns an error that ends the work on folders into what `find_fault` finds in it."""
    try:
        yield
    except Exception as error:
        fault = find_fault(error, *folders)
        if fault is None or fault is error:
            raise
        raise fault from error


def find_fault(error: BaseException, *folders: Path) -> StorageError | None:
    """Returns the fault of the storage, which `folders` are in, that an error is; none where it is another error.

    An error number that only a disk gives is a fault wherever it came up, another one if its file is in a folder.
    """
    error = getattr(error, "cause", error)  # of Ray's error for one in another process
    if isinstance(error, StorageError):
        return error
    if not isinstance(error, OSError):
        return None
    path = Path(os.fsdecode(error.filename)).absolute() if isinstance(error.filename, str | bytes) else None
    concerned = path is not None and any(path.is_relative_to(folder.absolute()) for folder in folders)
    if error.errno in OF_DISKS or (concerned and error.errno in OF_FILES):
        return StorageError(describe_fault(error, path or folders[0]))
    return None


def is_full(fault: StorageError) -> bool:
    """Tells whether the fault is that there is no space."""
    return isinstance(fault.__cause__, OSError) and fault.__cause__.errno in FULL


def describe_fault(error: OSError, path: Path, size_bytes: int | None = None) -> str:
    """Says in a sentence what is wrong with the storage, and what to do."""
    reason = os.strerror(error.errno or 0)
    if error.errno in FULL:
        needed = "" if size_bytes is None else f"it takes {format_bytes(size_bytes)}, "
        return f"no space for {path} ({reason}): {needed}{_describe_free(path)}; free space"
    if error.errno in READ_ONLY:
        return f"{path} must be writable, got {reason!r}; mount its disk for writing, or give it the right to write"
    return f"the storage of {path} must be in reach, got {reason!r}; mount it again, or restore the folder"


def _describe_free(path: Path) -> str:
    """Says how much is free where `path` is or would be; a quota may leave less."""
    try:
        folder = next(folder for folder in path.absolute().parents if folder.is_dir())
        numbers = os.statvfs(folder)
    except OSError:
        return "how much is free cannot be asked"
    no_inode = ", and no inode" if numbers.f_files and not numbers.f_favail else ""
    return f"{format_bytes(numbers.f_bavail * numbers.f_frsize)} are free{no_inode}"


def format_bytes(size: float) -> str:
    """Formats a size with three digits: 1.23 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def patiently(write: Callable[[], None]) -> None:
    """Calls `write` until the storage takes it.

    Raises:
        StorageError: it did not for PATIENCE_S, or has not since an earlier call that gave up.
    """
    global _outage_began
    while True:
        try:
            write()
        except StorageError:
            now = time.monotonic()
            if _outage_began is None:
                _outage_began = now
            if now - _outage_began >= PATIENCE_S:
                raise
            time.sleep(PAUSE_S)
        else:
            _outage_began = None
            return


def say(text: str) -> None:
    """Prints a line on stderr; where that is a file on a full disk, it is lost."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)
