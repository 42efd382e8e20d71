"""Opens the storage of an Optuna study: a journal file in the run's folder, or a database."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from raysweep import atomic_files
from raysweep.atomic_files import FROM_BACKUP
from raysweep.errors import UsageError
from raysweep.run_folder import SearchFolder

LOCK_GRACE_S = 10
"""After this time the journal's lock is taken to be left by a process that was killed while it wrote."""
WHAT = "the Optuna study of a run"
REMEDY = (
    f"{FROM_BACKUP}, or start a new run with another --name; the models and metrics of its trials are in the run's "
    "folder all the same"
)


class CheckedJournal(JournalFileBackend):
    """Writes a checksum into each line; Optuna and its dashboard read the file as any other."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends operations."""
        super().append_logs([atomic_files.add_checksum(log) for log in logs])


def open_storage(folder: SearchFolder, url: str | None) -> BaseStorage:
    """Opens the database at `url`, or the journal file in the folder, repaired where its last line is torn.

    Raises:
        UsageError: there is no such database.
        CorruptFileError: the journal is damaged elsewhere than at its end.
    """
    if url is None:
        path = folder.journal
        with guard_study(folder, url):
            repair_journal(path)
            atomic_files.read_json_lines(path, WHAT, REMEDY)  # Optuna itself overlooks damage in the last line
            return JournalStorage(CheckedJournal(str(path), JournalFileSymlinkLock(str(path), LOCK_GRACE_S)))
    try:
        return RDBStorage(url)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"no Optuna storage at --optuna-storage {hide_password(url)}: {reason}; give the URL of a database, such "
            "as sqlite:////path/to/optuna.db or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None


@contextlib.contextmanager
def guard_study(folder: SearchFolder, url: str | None) -> Iterator[None]:
    """Makes one sentence of what reading the Optuna study of a run raises.

    Raises:
        CorruptFileError: it is damaged.
    """
    with atomic_files.guard(folder.journal if url is None else hide_password(url), WHAT, REMEDY):
        yield


def has_study(storage: BaseStorage, study_name: str) -> bool:
    """Tells whether the storage has a study of that name."""
    return study_name in optuna.get_all_study_names(storage)


def repair_journal(path: Path) -> None:
    """Removes a last line without an end, which a killed process left: the next line would be glued to it."""
    if not path.is_file() or path.read_bytes()[-1:] in (b"", b"\n"):
        return
    lock = JournalFileSymlinkLock(str(path), LOCK_GRACE_S)
    lock.acquire()
    try:
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
            os.fsync(file.fileno())
    finally:
        lock.release()


def hide_password(url: str) -> str:
    """Returns the URL with *** for its password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url.partition("://")[0]


def has_password(url: str) -> bool:
    """Tells whether the URL must not be stored as it is."""
    return sqlalchemy.make_url(url).password is not None
