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

from raysweep.data.reading import read_at_most
from raysweep.errors import DataError

MAX_GZIP_RATIO = 1032
"""No deflated byte stands for more than so many (zlib's technical details)."""
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
    zipped = path.suffix == ".gz"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            start = file.read(4)
            zeros, kind, num_dimensions = struct.unpack(">HBB", start)
            if zeros != 0 or kind != 8 or num_dimensions not in (1, 2, 3, 4):
                raise DataError(f"{path} is no idx file of unsigned bytes: it starts with {start!r}")
            shape = struct.unpack(f">{num_dimensions}I", file.read(4 * num_dimensions))
            expected = math.prod(shape)
            most = size_bytes * (MAX_GZIP_RATIO if zipped else 1)
            data = read_at_most(file, min(expected, most) + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path} cannot be read as an idx file: {error}") from None
    except MemoryError:
        raise DataError(f"{path} has {expected:,} values, more than fit into memory here") from None
    if len(data) > expected:
        raise DataError(f"{path} is too long: its header names {expected} values, it has more")
    if len(data) < expected:
        raise DataError(f"{path} is truncated: its header names {expected} values, it has {len(data)}")
    values = np.frombuffer(data, np.uint8)
    values.flags.writeable = False
    return values.reshape(shape)


def name_classes(labels: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Names the classes of training labels (N,): MNIST and Fashion-MNIST are recognised by their digest.

    Raises:
        DataError: the labels are not numbered on from 0 or 1.
    """
    known = CLASS_NAMES.get(hashlib.sha256(labels.tobytes()).hexdigest())
    if known is not None:
        return known
    found = np.unique(labels).tolist()
    if gaps := [number for number in range(1, found[-1]) if number not in found]:
        shown = ", ".join(map(str, found if len(found) < 20 else [*found[:10], "...", *found[-3:]]))
        raise DataError(
            f"labels must be the numbers 0 to N - 1 of N classes, each with images to train on; got {shown}, and no "
            f"{gaps[0]}: a label beyond the classes, or classes to be numbered anew"
        )
    return tuple(str(label) for label in range(found[-1] + 1))
