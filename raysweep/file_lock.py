"""Lets one process at a time make a file that others then find: the kernel's lock, which a dead process lets go of."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from raysweep.announcement import announce


@contextlib.contextmanager
def wait_for_lock(path: Path, what: str) -> Iterator[None]:
    """Holds the lock that `path` stands for; while another holds it, says that it waits for `what`."""
    with path.open("w") as file:
        with announce(what):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
