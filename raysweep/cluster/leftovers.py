"""Keeps what a driver has on this machine outside its storage in one folder, and clears what killed drivers left.

Each driver that has connected to Ray has a folder in the temporary directory, with the lock of a file in it. The lock
ends with its holder, whatever kills it: a folder whose lock can be had is a dead driver's.
"""

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]  # comes with Ray
import ray

PREFIX = "raysweep-"
OWNER = "owner.json"
DRIVER_LOG = "python-core-driver-"


class _Held:
    """Holds this process's folder."""

    folder: Path | None = None
    file: IO[str] | None = None
    session: Path | None = None


def hold_folder() -> Path:
    """Returns this process's folder; makes it at the first call, and removes it when the process ends well."""
    if _Held.folder is None or not _Held.folder.is_dir():
        _Held.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        being_made = _Held.folder / "owner"
        _Held.file = being_made.open("w", encoding="utf-8")
        fcntl.flock(_Held.file, fcntl.LOCK_EX)
        being_made.rename(_Held.folder / OWNER)  # before it, nobody else looks at the folder
        atexit.register(_end)
    return _Held.folder


def note_local_ray(session: Path) -> None:
    """Writes down which local Ray this process has started, in `session`, its folder: for `clear`."""
    hold_folder()
    assert _Held.file is not None
    if _Held.session is not None:
        remove_session(_Held.session)  # of one that has ended
    _Held.session = session
    _Held.file.seek(0)
    _Held.file.truncate()
    json.dump({"session": str(session)}, _Held.file)
    _Held.file.flush()


def _end() -> None:
    """Leaves Ray, and removes what this process has in temporary folders."""
    with contextlib.suppress(Exception):
        ray.shutdown()
    remove_folder()


def find_session() -> Path | None:
    """Returns the folder of the local Ray that this process has started; none: it has started none."""
    return _Held.session


def remove_folder() -> None:
    """Removes this process's folder, and that of the local Ray, which has ended: Ray itself never does."""
    if _Held.session is not None:
        remove_session(_Held.session)
    if _Held.folder is not None:
        shutil.rmtree(_Held.folder, ignore_errors=True)


def clear() -> None:
    """Ends the processes of local Rays that dead drivers of this user have started, and removes their folders."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        with contextlib.suppress(OSError), owner.open("r+", encoding="utf-8") as file:
            if owner.stat().st_uid != os.getuid():
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(ValueError, KeyError, TypeError):
                noted = json.load(file)
                session = Path(noted["session"])
                if is_session(session):
                    kill_session(session)
                    remove_session(session)
            shutil.rmtree(owner.parent, ignore_errors=True)


def kill_session(session: Path) -> None:
    """Kills what a local Ray has started: it writes to the session's folder, whose name no other Ray has.

    So do drivers, which are not Ray's; their logs have a name of their own.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError, AttributeError):  # macOS does not tell the mode
            written = [Path(file.path) for file in process.open_files() if file.mode != "r"]
            names = [path.name for path in written if session in path.parents]
            if names and process.pid != os.getpid() and not any(name.startswith(DRIVER_LOG) for name in names):
                process.kill()


def is_session(folder: Path) -> bool:
    """Tells whether a folder is by its name that of a local Ray."""
    return folder.name.startswith("session_") and folder.is_dir() and not folder.is_symlink()


def remove_session(session: Path) -> None:
    """Removes the folder of a local Ray that has ended, logs and all."""
    if is_session(session):
        shutil.rmtree(session, ignore_errors=True)
