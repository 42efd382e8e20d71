"""Copies decoded images from network storage to the node's own disk: random reads over a network starve a GPU."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]  # comes with Ray

from raysweep import atomic_files, file_guard
from raysweep.data.images import PreparedData
from raysweep.errors import CorruptFileError
from raysweep.storage_faults import format_bytes

NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "9p", "fuse")
)
"""Types of file systems that are reached over a network; those of FUSE (`fuse.s3fs`) are taken for such."""
IN_MEMORY = frozenset(("tmpfs", "ramfs"))
SHARE_LEFT_FREE = 0.1
"""Of the disk that copies go to."""
CHUNK_BYTES = 2**24
_said: set[str] = set()
_held: dict[Path, IO[bytes]] = {}
"""Locks of the copies that this process reads: they are not removed."""


def read_nearby(data: PreparedData, folder: Path | None = None) -> tuple[PreparedData, str | None]:
    """Copies decoded images to this node's own disk, once for all its processes, where they lie on network storage.

    folder: of the copies; none: one in the temporary directory.

    Returns the images, read from there, and else a sentence that says why they are read over the network.
    """
    copies = {}
    try:
        for split, images in (("train", data.train), ("val", data.val)):
            original = (images.folder / "images.npy").resolve()
            if images.is_decoded and is_on_network(original):
                copies[split] = copy_once(original, folder or _make_folder())
    except OSError as error:
        sentence = f"decoded images are read over the network, not from this node's disk, which is slower: {error}"
        return data, _say_once(sentence)
    return dataclasses.replace(data, copies=copies), None


def is_on_network(path: Path) -> bool:
    """Tells whether a path lies on storage that is reached over a network."""
    kind = find_file_system(path)
    return kind.split(".")[0] in NETWORK


def find_file_system(path: Path) -> str:
    """Returns the type of the file system that a path lies on; "" where that is not known."""
    found = ("", "")
    for mount in psutil.disk_partitions(all=True):
        if path.is_relative_to(mount.mountpoint) and len(mount.mountpoint) >= len(found[0]):
            found = (mount.mountpoint, mount.fstype)
    return found[1]


def copy_once(original: Path, folder: Path) -> Path:
    """Copies a file into a folder unless there is a whole copy; waits while another process copies it.

    The copy stays locked as long as this process lives, and after it until others need the space.

    Raises:
        OSError: there is no room, or a file cannot be read or written.
    """
    stat = original.stat()
    key = hashlib.sha256(f"{original}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    copy = folder / f"{key}.npy"
    if copy not in _held:
        _held[copy] = (folder / f"{key}.lock").open("ab")
        fcntl.flock(_held[copy], fcntl.LOCK_SH)
    if not _is_whole(copy):
        with (folder / f"{key}.copying").open("ab") as copying:
            fcntl.flock(copying, fcntl.LOCK_EX)
            if not _is_whole(copy):  # by now
                _make_room(folder, stat.st_size)
                _copy(original, copy)
    return copy


def _say_once(sentence: str) -> str | None:
    """Returns a sentence that this process has not said before: it trains many trials."""
    if sentence in _said:
        return None
    _said.add(sentence)
    return sentence


def _make_folder() -> Path:
    """Makes the folder of this user's copies in the temporary directory."""
    folder = Path(tempfile.gettempdir()) / f"raysweep-copies-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} must be a folder of this user's; remove it")
    kind = find_file_system(folder)
    if kind in IN_MEMORY or is_on_network(folder):
        raise OSError(f"{folder} must be on a disk of this node, got {kind}; set TMPDIR")
    return folder


def _is_whole(copy: Path) -> bool:
    """Tells whether a copy is there, and is the file that was written."""
    try:
        stat, manifest = copy.stat(), file_guard.read_json(_manifest(copy), "a copy's manifest", "remove it", dict)
    except (OSError, CorruptFileError):
        return False
    return [manifest.get("size"), manifest.get("mtime_ns")] == [stat.st_size, stat.st_mtime_ns]


def _copy(original: Path, copy: Path) -> None:
    """Copies a file, reads the copy back and compares the digests."""
    partial = copy.with_suffix(".partial")
    try:
        read = hashlib.sha256()
        with original.open("rb") as source, partial.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                read.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        with partial.open("rb") as source:
            if hashlib.file_digest(source, "sha256").digest() != read.digest():
                raise OSError(f"a copy of {original} to {copy.parent} has other bytes")
        partial.rename(copy)
    finally:
        partial.unlink(missing_ok=True)
    stat = copy.stat()
    facts = {"original": str(original), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": read.hexdigest()}
    atomic_files.write_json(_manifest(copy), facts, checksum=True)


def _make_room(folder: Path, size_bytes: int) -> None:
    """Removes copies that no process reads, until another has room.

    Raises:
        OSError: it has none then.
    """
    for old in [None, *_unused(folder)]:
        if old is not None:
            old.unlink(missing_ok=True)
        usage = shutil.disk_usage(folder)
        if usage.free - size_bytes >= SHARE_LEFT_FREE * usage.total:
            return
    raise OSError(
        f"{folder} must have {format_bytes(size_bytes)} and a tenth of its disk free, got {format_bytes(usage.free)}"
    )


def _unused(folder: Path) -> Iterator[Path]:
    """Yields the copies that no process reads, each locked until the next is asked for."""
    for copy in (*folder.glob("*.npy"), *folder.glob("*.partial")):  # of a process that was killed as it copied
        with contextlib.suppress(BlockingIOError), copy.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield copy


def _manifest(copy: Path) -> Path:
    return copy.with_suffix(".json")
