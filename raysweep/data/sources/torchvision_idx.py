"""Data sets of idx files that torchvision can download."""

from collections.abc import Sequence
from pathlib import Path

from raysweep.data.idx import find_idx_file
from raysweep.data.records import Source
from raysweep.data.sources import WAYS_ON
from raysweep.data.sources.download import call_with_timeout, shorten_error
from raysweep.data.sources.idx_files import load_idx_source
from raysweep.errors import DataError
from raysweep.run_folder import cache_folder


def load_torchvision(
    name: str, dataset: str, folders: Sequence[Path], *, split_seed: int, storage: Path, data_root: Path | None
) -> Source:
    """Finds the idx files in the first of `folders` that has any, else downloads torchvision's `dataset`.

    Raises:
        DataError: they cannot be had; the message says what was tried.
    """
    for folder in folders:
        if folder.is_dir() and find_idx_file(folder, "train-images-idx3-ubyte"):
            return load_idx_source(folder, name=name, split_seed=split_seed)
    import torchvision

    downloads = cache_folder(storage) / "torchvision"
    try:  # does nothing where all its files are there, and goes on where an earlier download stopped
        kind = getattr(torchvision.datasets, dataset)
        call_with_timeout(lambda: kind(downloads, download=True))
    except Exception as error:  # urllib's, torchvision's and the socket's exceptions alike: no data
        tried = "".join(f"\n  {folder}: no idx files" for folder in folders)
        unset = "" if data_root else "\n  RAYSWEEP_DATA is not set"
        raise DataError(
            f"{name} cannot be had here. Tried:{unset}{tried}\n"
            f"  torchvision's download: {shorten_error(error)}\n{WAYS_ON}"
        ) from error
    return load_idx_source(downloads / dataset / "raw", name=name, split_seed=split_seed)
