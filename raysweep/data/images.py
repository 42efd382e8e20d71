"""Decoded images on disk, memory-mapped: every process of a node shares the same pages."""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysweep import config_fields
from raysweep.atomic_files import Json


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
        images: npt.NDArray[np.uint8] = np.load(self.folder / "images.npy", mmap_mode="r")
        return images

    @cached_property
    def _rows(self) -> npt.NDArray[np.int64]:
        rows: npt.NDArray[np.int64] = np.load(self.folder / "rows.npy")
        return rows

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Returns class numbers, (N,) int64."""
        labels: npt.NDArray[np.int64] = np.load(self.folder / "labels.npy")
        return labels

    @cached_property
    def names(self) -> list[str]:
        """Returns each image's origin: a path, with `#index` for a member of an idx file; length N."""
        names: list[str] = json.loads((self.folder / "names.json").read_text())
        return names

    def gather(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Copies some images, (len(indices), H, W, C) uint8."""
        return np.asarray(self._images[self._rows[indices]])


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
            np.save(place / "rows.npy", np.load(images.folder / "rows.npy")[chosen])
            np.save(place / "labels.npy", images.labels[chosen])
            counts[place.name] = len(chosen)
        return PreparedData(
            folder=folder,
            info=dataclasses.replace(self.info, num_train=counts["train"], num_val=counts["val"]),
        )

    @staticmethod
    def load(folder: Path) -> "PreparedData":
        """Loads the data that were prepared in the cache's `folder`."""
        values: Json = json.loads((folder / "info.json").read_text())
        return PreparedData(folder=folder, info=config_fields.from_json(DataInfo, values))


def space_evenly(num_images: int, most: int | None) -> npt.NDArray[np.int64]:
    """Chooses at most so many positions in a split, evenly spaced: it may be sorted by class. None: all."""
    return np.linspace(0, num_images - 1, min(num_images, most or num_images)).round().astype(np.int64)
