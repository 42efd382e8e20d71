"""Opens the storage of an Optuna study: a journal file in the run's folder, or a database."""

import os
import re
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from raysweep.errors import UsageError
from raysweep.run_folder import SearchFolder

LOCK_GRACE_S = 10
"""After this time the journal's lock is taken to be left by a process that was killed while it wrote."""
URL_FORMS = "such as sqlite:////path/to/optuna.db or postgresql://USER:PASSWORD@HOST/NAME"
_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)


def open_storage(folder: SearchFolder, url: str | None) -> BaseStorage:
    """Opens the database at `url`, or the journal file in the folder, repaired where its last line is torn.

    Raises:
        UsageError: there is no such database.
    """
    if url is None:
        path = folder.journal
        repair_journal(path)
        return JournalStorage(JournalFileBackend(str(path), JournalFileSymlinkLock(str(path), LOCK_GRACE_S)))
    parsed = _parse(url)
    if parsed is None:
        raise UsageError(
            f"--optuna-storage must be the URL of a database, {URL_FORMS}, with %40, %2F and %3A for @, / and : in a "
            "password; what was received is no such URL, and is not shown, as it may have a password"
        )
    try:
        return RDBStorage(url)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0].replace(parsed.password or "***", "***")
        raise UsageError(
            f"no Optuna storage at --optuna-storage {hide_password(url)}: {reason}; give the URL of a database, "
            f"{URL_FORMS}"
        ) from None


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


def has_password(url: str) -> bool:
    """Tells whether the URL must not be stored as it is."""
    parsed = _parse(url)
    return parsed is None or parsed.password is not None or any(_SECRET.search(key) for key in parsed.query)


def _parse(url: str) -> sqlalchemy.URL | None:
    """Parses a URL; none: it is no URL, or has a password with an @, of which SQLAlchemy takes a part for the host."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    return None if "@" in (parsed.host or "") else parsed
