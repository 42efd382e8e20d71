"""Opens the storage of an Optuna study: a journal file in the run's folder, or a database.

SQLAlchemy is imported where a database is used: it takes half a second.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from raysweep import atomic_files, file_guard
from raysweep.errors import CorruptFileError, StorageError, UsageError
from raysweep.file_guard import FROM_BACKUP
from raysweep.run_folder import RunFolder, SearchFolder
from raysweep.storage_faults import guard_writing, patiently

if TYPE_CHECKING:
    import sqlalchemy

LOCK_GRACE_S = 10
"""After this time the journal's lock is taken to be left by a process that was killed while it wrote."""
WHAT = "the Optuna study of a run"
REMEDY = (
    f"{FROM_BACKUP}, or start a new run with another --name; the models and metrics of its trials are in the run's "
    "folder all the same"
)
URL_FORMS = "such as sqlite:////path/to/optuna.db or postgresql://USER:PASSWORD@HOST/NAME"
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)


def open_storage(folder: SearchFolder, url: str | None) -> BaseStorage:
    """Opens the database at `url`, or the journal file in the folder, repaired where its last line is torn.

    Raises:
        UsageError: there is no such database, or it does not answer.
        StorageError: the journal cannot be written.
        CorruptFileError: the journal is damaged elsewhere than at its end, or the file of a run's database is gone.
    """
    if url is None:
        with guard_study(folder, url), guard_writing(folder.journal):
            repair_journal(folder.journal)
            file_guard.read_json_lines(folder.journal, WHAT, REMEDY)  # Optuna overlooks damage in the last line
            return JournalStudies(Journal(folder.journal))
    parsed = _parse(url)
    if parsed is None:
        raise UsageError(
            f"--optuna-storage must be the URL of a database, {URL_FORMS}, with %40, %2F and %3A for @, / and : in a "
            "password; what was received is no such URL, and is not shown, as it may have a password"
        )
    if isinstance(folder, RunFolder) and folder.study.is_file():
        _check_file(parsed)
    import sqlalchemy

    try:
        return RDBStorage(url)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0].replace(parsed.password or "***", "***")
        raise UsageError(
            f"no Optuna storage at --optuna-storage {hide_password(url)}: {reason}; give the URL of a database, "
            f"{URL_FORMS}"
        ) from None


def _check_file(url: "sqlalchemy.URL") -> None:
    """Fails where the file of a run's SQLite database is gone: to open it would make it anew, empty.

    Raises:
        CorruptFileError: it is.
    """
    name = (url.database or "").removeprefix("file:")
    if url.get_backend_name() == "sqlite" and name not in ("", ":memory:") and not Path(name).exists():
        raise CorruptFileError(f"the database {Path(name).absolute()}, {WHAT}, is gone; {REMEDY}")


@contextlib.contextmanager
def guard_study(folder: SearchFolder, url: str | None) -> Iterator[None]:
    """Makes one sentence of what reading the Optuna study of a run raises.

    Raises:
        CorruptFileError: it is damaged.
    """
    with file_guard.guard(folder.journal if url is None else hide_password(url), WHAT, REMEDY):
        yield


class Journal(JournalFileBackend):
    """A journal file whose lines are whole or not there: what a full disk took of a line is removed again.

    Each has a checksum, which Optuna and its dashboard pass over.
    """

    def __init__(self, path: Path) -> None:
        self._file_lock = JournalFileSymlinkLock(str(path), LOCK_GRACE_S)
        super().__init__(str(path), self._file_lock)
        self.path = path
        self._puts_off = False
        """Whether lines that are appended need not be synced at once."""
        self._num_unsynced = 0

    @contextlib.contextmanager
    def write_together(self) -> Iterator[None]:
        """Syncs the lines that are appended within all at once, at the end: one takes as long as ten.

        They are in the file at once all the same, and outlive the process.

        Raises:
            StorageError: the disk does not take them.
        """
        self._puts_off = True
        try:
            yield
        finally:
            self._puts_off = False
            if self._num_unsynced:
                self._num_unsynced = 0
                with guard_writing(self.path), self.path.open("rb") as file:
                    os.fsync(file.fileno())

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends lines; a storage that does not take them is waited for.

        Raises:
            StorageError: it does not take them for too long.
        """
        patiently(lambda: self._append([atomic_files.add_checksum(log) for log in logs]))

    def _append(self, logs: list[dict[str, Any]]) -> None:
        with guard_writing(self.path):
            size = self.path.stat().st_size  # a file that is gone is not begun anew
            try:
                self._write(logs) if self._puts_off else super().append_logs(logs)
            except RuntimeError as error:  # the lock could not be given back
                if not isinstance(error.__context__, OSError):
                    raise
                raise error.__context__ from None
            except OSError:
                os.truncate(self.path, size)
                raise

    def _write(self, logs: list[dict[str, Any]]) -> None:
        """Appends lines as Optuna does, but without syncing them."""
        self._file_lock.acquire()
        try:
            with self.path.open("ab") as file:
                file.write("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())
        finally:
            self._file_lock.release()
        self._num_unsynced += len(logs)


class JournalStudies(JournalStorage):
    """Optuna studies in a journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self._journal = journal

    def write_together(self) -> contextlib.AbstractContextManager[None]:
        """Syncs what is written within all at once, as the journal says."""
        return self._journal.write_together()


@contextlib.contextmanager
def guard_optuna() -> Iterator[None]:
    """Turns an error of a database into a StorageError: it is no trial's fault."""
    try:
        yield
    except Exception as error:
        import sqlalchemy

        if not isinstance(error, StorageInternalError | sqlalchemy.exc.SQLAlchemyError):
            raise
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        raise StorageError(
            f"the database of the Optuna study must take what trials report, got {str(cause).splitlines()[0]!r}; see "
            "to it that it runs and has space"
        ) from error


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
    """Returns the URL with *** for its password, and for the values of what its query calls a password or the like."""
    parsed = _parse(url)
    if parsed is None:
        return "***"
    hidden = {key: "***" if _SECRET.search(key) else value for key, value in parsed.query.items()}
    return parsed.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def lacks_password(url: str) -> bool:
    """Tells whether it is the URL of a database that has a password, without that, as it is stored."""
    return has_password(url) and hide_password(url) == url


def has_password(url: str) -> bool:
    """Tells whether the URL must not be stored as it is."""
    parsed = _parse(url)
    return parsed is None or parsed.password is not None or any(_SECRET.search(key) for key in parsed.query)


def _parse(url: str) -> "sqlalchemy.URL | None":
    """Parses a URL; none: it is no URL, or has a password with an @, of which SQLAlchemy takes a part for the host."""
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    return None if "@" in (parsed.host or "") else parsed
