"""Loads arrays of the cache, of the type and shape that they were written with."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from raysweep import file_guard
from raysweep.config import require

WHAT = "decoded images"
REMEDY = "remove the folder that it is in: then they are decoded again"


def load_array(
    path: Path, dtype: type[np.generic], num_axes: int = 1, mmap_mode: Literal["r"] | None = None
) -> npt.NDArray[Any]:
    """Loads an array, of the type and number of axes that it was written with; objects would be unpickled: never.

    Raises:
        CorruptFileError: the file is damaged.
    """
    with file_guard.guard(path, WHAT, REMEDY):
        array: npt.NDArray[Any] = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        is_right = np.issubdtype(array.dtype, dtype) and array.ndim == num_axes
        require(is_right, f"the type must be {dtype.__name__}", array.dtype)
        return array


def compute_digest(path: Path) -> str:
    """Returns the SHA-256 of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
