"""Covers the folder of a model that is kept, such as `best/` of a run, by one digest: weights, configuration, detector.

Each of these files has a checksum of its own, too. The digest says that they belong together.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep import atomic_files, file_guard
from raysweep.errors import CorruptFileError
from raysweep.run_folder import ModelFolder

REMEDY = "`raysweep tune STUDY --resume` makes it again from its trial's folder"


def seal_model(folder: ModelFolder) -> None:
    """Writes the digest over the files that the folder has now."""
    atomic_files.write_json(
        folder.digest,
        {path.name: _compute_digest(path) for path in _list_files(folder) if path.is_file()},
        checksum=True,
    )


def check_model(folder: ModelFolder, *, with_detector: bool = True) -> None:
    """Checks the folder's files against its digest; a folder from before there was one has none, and passes.

    with_detector: else one that is damaged or gone is left to who fits it again.

    Raises:
        CorruptFileError: a file is another than was kept, or is gone.
    """
    if not folder.digest.exists():
        return
    stored: Mapping[str, Any] = file_guard.read_json(folder.digest, "the digest of a model", REMEDY, dict)
    for path in _list_files(folder):
        if path.name not in stored or (path == folder.detector and not with_detector):
            continue
        remedy = "`raysweep evaluate RUN` fits it again" if path == folder.detector else REMEDY
        with file_guard.guard(path, f"a file that {folder.digest.name} names", remedy):
            digest = _compute_digest(path)
        if digest != stored[path.name]:
            raise CorruptFileError(
                f"{path} must be the file that was kept, with the SHA-256 {str(stored[path.name])[:12]} in "
                f"{folder.digest.name}, got {digest[:12]}; {remedy}"
            )


def check_complete(folder: ModelFolder) -> None:
    """Checks that the folder has a model, and it is the one that was kept.

    Raises:
        CorruptFileError: a file is another than was kept, or is not there.
    """
    for path in (folder.weights, folder.config):
        if not path.is_file():
            raise CorruptFileError(f"{path} is not there; {REMEDY}")
    check_model(folder)


def _list_files(folder: ModelFolder) -> tuple[Path, ...]:
    return folder.weights, folder.config, folder.detector, *folder.list_code()


def _compute_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
