"""Gives a search a small disk of its own that can be filled up: a file system in memory, in a namespace. Linux only."""

import contextlib
import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec cat'
CHUNK = 1 << 16


class SmallDisk:
    """A file system that only processes see that are run by `prefix`."""

    def __init__(self, folder: Path, holder: int) -> None:
        self.folder = folder
        """Where those processes see it."""
        self.prefix = ("nsenter", f"--target={holder}", "--user", "--mount", "--preserve-credentials", "--wd=.")
        self.view = Path(f"/proc/{holder}/root{folder}")
        """Where this process sees it."""
        self._ballast = self.view / "ballast"

    def fill(self) -> int:
        """Writes a file until there is no space left; returns its size in bytes."""
        size = 0
        with self._ballast.open("ab", buffering=0) as file:
            for chunk in (CHUNK, 1):
                try:
                    while written := file.write(b"\0" * chunk):
                        size += written
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        return size

    def free(self) -> None:
        """Removes what fills it."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def open_small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mounts a disk of that size over a folder; what is on it is copied into the folder at the end.

    Raises:
        OSError: this machine does not allow it.
    """
    folder.mkdir(parents=True)
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", str(size_bytes), str(folder)]
    pipe = subprocess.PIPE  # the holder ends with its stdin, and so with this process
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "mounted\n":
            raise OSError(holder.stderr.read().strip().splitlines()[-1])
        disk = SmallDisk(folder, holder.pid)
        try:
            yield disk
        finally:
            shutil.copytree(disk.view, folder, dirs_exist_ok=True, symlinks=True)
            holder.kill()


def find_obstacle(folder: Path) -> str | None:
    """Tries whether this machine allows a small disk; returns why not, none: it does."""
    try:
        with open_small_disk(folder, 1 << 20):
            return None
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
