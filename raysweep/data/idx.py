"""Reads idx files, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist), plain or .gz."""

import gzip
import hashlib
import math
import struct
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysweep.errors import DataError

LAYOUTS = (".", "MNIST/raw", "FashionMNIST/raw", "raw")
DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CLASS_NAMES = {
    "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13": DIGITS,
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": GARMENTS,
}


def find_idx_file(folder: Path, name: str) -> Path | None:
    """Finds the idx file `name`, such as `train-images-idx3-ubyte`, in `folder` or in torchvision's layout there."""
    for layout in LAYOUTS:
        for suffix in ("", ".gz"):
            path = folder / layout / f"{name}{suffix}"
            if path.is_file():
                return path
    return None


def load_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Loads an idx file of unsigned bytes: images (N, H, W) or labels (N,), uint8, read-only.

    Raises:
        DataError: the file is truncated, or is no idx file of unsigned bytes.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read as an idx file: {error}") from None
    return _read_idx(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _read_idx(path: Path, size_bytes: int, mtime_ns: int) -> npt.NDArray[np.uint8]:
    """Reads the idx file that has this size and time: a file that is rewritten is read again."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, num_dimensions = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{num_dimensions}I", data[4 : 4 + 4 * num_dimensions])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path} cannot be read as an idx file: {error}") from None
    if zeros != 0 or kind != 8:
        raise DataError(f"{path} is no idx file of unsigned bytes: it starts with {data[:4]!r}")
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * num_dimensions)
    expected = math.prod(shape)
    if len(values) != expected:
        fault = "truncated" if len(values) < expected else "too long"
        raise DataError(f"{path} is {fault}: its header names {expected} values, it has {len(values)}")
    return values.reshape(shape)


def name_classes(labels: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Names the classes of training labels (N,): MNIST and Fashion-MNIST are recognised by their digest."""
    known = CLASS_NAMES.get(hashlib.sha256(labels.tobytes()).hexdigest())
    return known or tuple(str(label) for label in range(int(labels.max()) + 1))
