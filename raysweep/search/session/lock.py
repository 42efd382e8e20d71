"""One driver at a time: a lock on the run's folder that the operating system releases when its holder dies."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from raysweep.errors import UsageError

LEASE = ".lease"


@contextmanager
def hold_lease(run: Path) -> Iterator[None]:
    """Keeps other drivers out of a run's folder while it is open.

    The lock is the kernel's (`flock`), which on NFS 4 and EFS the server holds for the client: it ends with the
    process, whatever kills it, and with the host, once the server misses its client. A lock by process number and
    heartbeat would have to guess whether its holder is dead.

    Raises:
        UsageError: another driver holds it, or the file system has no locks.
    """
    with (run / LEASE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"another driver works in {run} ({file.read().strip() or 'it has just begun'}); wait until it ends, or "
                "end it and go on with --resume"
            ) from None
        except OSError as error:
            raise UsageError(
                f"the file system of {run} has no locks ({errno.errorcode.get(error.errno or 0, error)}), which keep a "
                "second driver out; give a --storage on a local disk, NFS 4 or EFS"
            ) from None
        file.truncate(0)
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat("T", "seconds"),
        }
        file.write(json.dumps(holder) + "\n")
        file.flush()
        yield
