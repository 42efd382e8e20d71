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
from typing import TextIO

from raysweep import atomic_files, config_fields
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder

MAX_HOLDER = 200
"""Letters of what its holder has written into the lock that a message shows."""
TRIES, PAUSE_S = 5, 0.05
"""Of taking the lock: who looks whether somebody holds it does so too, for a moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Names the process that works in a run's folder."""

    host: str
    pid: int
    since: str
    """When it began, as ISO 8601 with UTC."""


def find_holder(run_folder: RunFolder) -> Holder | None:
    """Finds the process that works in a run's folder, from any host that sees it; none: none does.

    Raises:
        UsageError: the file system has no locks.
    """
    if not run_folder.lock.is_file():
        return None
    with atomic_files.guard(run_folder.lock, "what keeps a second driver out"), run_folder.lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                return config_fields.from_json(Holder, json.loads(file.read(MAX_HOLDER)))
            except (ValueError, UsageError):  # it has just begun
                return Holder(host="?", pid=0, since="?")
        except OSError as error:
            raise _no_locks(run_folder, error) from None
    return None


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
        with atomic_files.guard(run_folder.lock, "what keeps a second driver out"):
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
            raise _no_locks(run_folder, error) from None
        file.truncate(0)
        ours = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat("T", "seconds"),
        }
        file.write(json.dumps(ours) + "\n")
        file.flush()
        yield


def _take(file: TextIO) -> None:
    """Takes the lock of a file.

    Raises:
        OSError: another process holds it (BlockingIOError), or the file system has no locks.
    """
    for count in range(TRIES):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if count == TRIES - 1:
                raise
        time.sleep(PAUSE_S)


def _no_locks(run_folder: RunFolder, error: OSError) -> UsageError:
    return UsageError(
        f"the file system of {run_folder.path} has no locks ({errno.errorcode.get(error.errno or 0, error)}), which "
        "keep a second driver out; give a --storage on a local disk, NFS 4 or EFS"
    )
