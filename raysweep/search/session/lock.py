"""Admits one driver at a time: a lock on the run's folder, which the system releases when its holder dies."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from raysweep import config_fields, file_guard
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder

LOOK_S = 0.2
"""A lock that is held after so long is held by more than a look at it."""
MAX_HOLDER = 200
"""Letters of what its holder has written into the lock that a message shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Names the process that works in a run's folder."""

    host: str
    pid: int
    since: str
    """When it began, as ISO 8601 with UTC."""


def find_holder(run_folder: RunFolder) -> Holder | None:
    """Finds the process that works in a run's folder, from any host that sees it; none: none does."""
    if not is_locked(run_folder):
        return None
    try:
        return config_fields.from_json(Holder, json.loads(run_folder.lock.read_bytes()[:MAX_HOLDER]))
    except (OSError, ValueError, UsageError):  # it has just begun
        return Holder(host="?", pid=0, since="?")


@contextlib.contextmanager
def hold_lock(run_folder: RunFolder) -> Iterator[None]:
    """Keeps other drivers out of a run's folder while it is open.

    The lock is the kernel's (`flock`), which on NFS 4 and EFS the server holds for the client: it ends with the
    process, whatever kills it, and with the host, once the server misses its client. A lock by process number and
    heartbeat would have to guess whether its holder is dead.

    Raises:
        UsageError: another driver holds it, or the file system has no locks.
    """
    path = run_folder.path
    with contextlib.ExitStack() as stack:
        with file_guard.guard(run_folder.lock, "what keeps a second driver out"):
            file = stack.enter_context(run_folder.lock.open("a+", encoding="utf-8", errors="replace"))
        try:
            _take(file)
        except BlockingIOError:
            file.seek(0)
            holder = " ".join(file.read(MAX_HOLDER).split()) or "it has just begun"
            raise UsageError(
                f"another driver works in {path} ({holder}); wait until it ends, or end it and go on with --resume"
            ) from None
        except OSError as error:
            raise UsageError(
                f"the file system of {path} has no locks ({errno.errorcode.get(error.errno or 0, error)}), which keep "
                "a second driver out; give a --storage on a local disk, NFS 4 or EFS"
            ) from None
        file.truncate(0)
        ours = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat("T", "seconds"),
        }
        file.write(json.dumps(ours) + "\n")
        file.flush()
        yield


def _take(file: IO[str]) -> None:
    """Takes the lock of an open file.

    Raises:
        BlockingIOError: another process holds it, and not only for a look.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(LOOK_S)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(run_folder: RunFolder) -> bool:
    """Tells whether a command works in a run's folder. It looks for a moment, and keeps no driver out."""
    try:
        with run_folder.lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file, or are no locks here
        return False
    return False
