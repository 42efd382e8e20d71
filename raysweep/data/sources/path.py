"""A folder that is given by its path: of images, or of idx files; or a table that lists images."""

from pathlib import Path

from raysweep.data.idx import find_idx_file
from raysweep.data.records import Source
from raysweep.data.sources import SOURCES, WAYS_ON
from raysweep.data.sources.idx_files import load_idx_source
from raysweep.data.sources.image_folder import find_class_folder, load_folder
from raysweep.data.sources.labels_file import TABLES, load_labels_file
from raysweep.errors import DataError
from raysweep.paths import resolve_path


def load_path(path: str, *, split_seed: int, storage: Path) -> Source:
    """Finds the images of a folder, or of a table.

    Raises:
        DataError: there is no such folder, or its images cannot be used.
        UsageError: it is no path.
    """
    folder = resolve_path(path, "--data")
    try:
        if folder.is_file() and folder.suffix in TABLES:
            return load_labels_file(folder, name=str(folder), split_seed=split_seed)
        if not folder.is_dir():
            known = ", ".join(sorted(SOURCES.references()))
            raise DataError(f"no folder {path}, and no source of that name; known: {known}.\n{WAYS_ON}")
        if find_idx_file(folder, "train-images-idx3-ubyte"):
            return load_idx_source(folder, name=str(folder), split_seed=split_seed)
        place = find_class_folder(folder)
        source = load_folder(place, name=str(folder), split_seed=split_seed)
    except OSError as error:
        raise DataError(f"the images of {folder} cannot be listed: {error}") from None
    if (storage.parent == place and storage.name in source.classes) or (
        source.no_classes and storage.is_relative_to(place)
    ):
        raise DataError(f"{storage}, the storage, would be a class of {place}; give a --storage outside of it")
    return source
