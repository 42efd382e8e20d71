"""Decoded images on disk, memory-mapped: every process of a node shares the same pages."""

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from raysweep import atomic_files, config_fields
from raysweep.config import require

WHAT = "decoded images"
REMEDY = "remove the folder that it is in: then they are decoded again"


class ImageSet:
    """The decoded images and labels of one split, by reference: only the folder's path is sent around.

    `images.npy` has a row for each file, `rows.npy` names those that could be decoded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[type["ImageSet"], tuple[Path]]:
        return ImageSet, (self.folder,)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _images(self) -> npt.NDArray[np.uint8]:
        return _load_array(self.folder / "images.npy", np.uint8, num_axes=4, mmap_mode="r")

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """Returns the row of each image in `images.npy`, (N,) int64."""
        return _load_array(self.folder / "rows.npy", np.int64)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Returns class numbers, (N,) int64."""
        return _load_array(self.folder / "labels.npy", np.int64)

    @cached_property
    def names(self) -> list[str]:
        """Returns each image's origin: a path, with `#index` for a member of an idx file; length N."""
        return atomic_files.read_names(self.folder / "names.json", WHAT, REMEDY)

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the number of images, their height, width and channels."""
        return (len(self), *self._images.shape[1:])

    def gather(self, indices: npt.NDArray[np.int64], out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Copies some images, (len(indices), H, W, C) uint8, into `out` where that is given."""
        if out is None:
            return np.asarray(self._images[self.rows[indices]])
        return np.take(self._images, self.rows[indices], axis=0, out=out, mode="clip")  # else by way of a buffer

    def seal(self) -> None:
        """Writes the digests of the small files. That of all pixels would be computed as long as they are decoded."""
        atomic_files.write_json(
            self._digests, {path.name: _compute_digest(path) for path in self._small}, checksum=True
        )

    def check(self, num_classes: int) -> int:
        """Checks the files of the split, all but the values of pixels, and returns the number of its images.

        Raises:
            CorruptFileError: they are damaged.
        """
        stored: dict[str, Any] = {}
        if self._digests.exists():  # of decoded images from before there was one only the form is checked
            stored = atomic_files.read_json(self._digests, "digests of decoded images", REMEDY, dict)
        for path in self._small:
            with atomic_files.guard(path, WHAT, REMEDY):
                if stored.get(path.name) not in (None, _compute_digest(path)):
                    raise ValueError("other bytes than were written")
        num_images = len(self.labels)
        with atomic_files.guard(self.folder, WHAT, REMEDY):
            require(len(self.rows) == len(self.names) == num_images, "rows, labels, names must agree", num_images)
            _require_below(self.rows, len(self._images), "rows")
            _require_below(self.labels, num_classes, "labels")
        return num_images

    @property
    def _digests(self) -> Path:
        return self.folder / "digests.json"

    @property
    def _small(self) -> list[Path]:
        return [self.folder / name for name in ("rows.npy", "labels.npy", "names.json")]


def _load_array(
    path: Path, dtype: type[np.generic], num_axes: int = 1, mmap_mode: Literal["r"] | None = None
) -> npt.NDArray[Any]:
    """Loads an array, of the type and number of axes that it was written with; objects would be unpickled: never.

    Raises:
        CorruptFileError: the file is damaged.
    """
    with atomic_files.guard(path, WHAT, REMEDY):
        array: npt.NDArray[Any] = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        require(array.dtype == dtype and array.ndim == num_axes, f"the type must be {dtype.__name__}", array.dtype)
        return array


def _require_below(numbers: npt.NDArray[np.int64], end: int, what: str) -> None:
    require(bool(np.all((numbers >= 0) & (numbers < end))), f"{what} must be in 0..{end - 1}", numbers.tolist()[:5])


def _compute_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedFile:
    """A file that could not be decoded."""

    path: str
    split: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataInfo:
    """Facts of a prepared data set that models and reports need."""

    source: str
    synthetic: bool
    digest: str
    """SHA-256 over names, labels and contents of all decoded files, split by split."""
    classes: tuple[str, ...]
    num_train: int
    num_val: int
    num_test: int
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = ()
    """What a user may not expect of the images, a sentence each: the same image in two splits, for one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedData:
    """Training and validation images, decoded; nothing in it leads to the test split."""

    folder: Path
    info: DataInfo

    @property
    def train(self) -> ImageSet:
        """Returns the training images."""
        return ImageSet(self.folder / "train")

    @property
    def val(self) -> ImageSet:
        """Returns the validation images."""
        return ImageSet(self.folder / "val")

    def take_subset(self, folder: Path, num_train: int, num_val: int) -> "PreparedData":
        """Takes at most so many images, evenly spaced, into a new `folder`; pixels are linked to."""
        folder.mkdir(parents=True)
        for path in self.folder.iterdir():
            if path.name not in ("train", "val"):
                (folder / path.name).symlink_to(path)
        counts = {}
        for images, most in ((self.train, num_train), (self.val, num_val)):
            place = folder / images.folder.name
            place.mkdir()
            chosen = space_evenly(len(images), most)
            (place / "images.npy").symlink_to(images.folder / "images.npy")
            np.save(place / "rows.npy", images.rows[chosen])
            np.save(place / "labels.npy", images.labels[chosen])
            counts[place.name] = len(chosen)
        return PreparedData(
            folder=folder,
            info=dataclasses.replace(self.info, num_train=counts["train"], num_val=counts["val"]),
        )

    @staticmethod
    def load(folder: Path) -> "PreparedData":
        """Loads the data that were prepared in the cache's `folder`.

        Raises:
            CorruptFileError: info.json is damaged.
        """
        decode = partial(config_fields.from_json, DataInfo)
        return PreparedData(folder=folder, info=atomic_files.read_json(folder / "info.json", WHAT, REMEDY, decode))


def space_evenly(num_images: int, most: int | None) -> npt.NDArray[np.int64]:
    """Chooses at most so many positions in a split, evenly spaced: it may be sorted by class. None: all."""
    return np.linspace(0, num_images - 1, min(num_images, most or num_images)).round().astype(np.int64)
