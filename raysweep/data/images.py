"""Prepared images: decoded ones on disk, memory-mapped and so shared by all processes of a node, or files."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep import atomic_files, config_fields, file_guard
from raysweep.config import require
from raysweep.data.arrays import REMEDY, WHAT, compute_digest, load_array
from raysweep.data.files import ImageFiles

Rows = npt.NDArray[np.int64]
FILES = "files"
Stream = Callable[[ImageFiles, Iterable[Rows]], Iterator[npt.NDArray[np.uint8]]]
"""Decodes batches of files ahead of their use, each given by its rows, in the order given."""


class ImageSet:
    """The images and labels of one split, by reference: only the folder's path is sent around.

    `images.npy` has a row for each file, decoded; without it images are decoded from `files/` when they are asked for.
    `rows.npy` names those that could be decoded.
    """

    def __init__(self, folder: Path, *, pixels: Path | None = None, stream: Stream | None = None) -> None:
        self.folder = folder
        self._pixels = pixels or folder / "images.npy"
        self._stream = stream

    def __reduce__(self) -> tuple[Callable[..., "ImageSet"], tuple[Path]]:
        return partial(ImageSet, pixels=self._pixels, stream=self._stream), (self.folder,)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_decoded(self) -> bool:
        """Tells whether the images are kept decoded."""
        return not (self.folder / FILES).exists()

    @cached_property
    def _images(self) -> npt.NDArray[np.uint8] | ImageFiles:
        if not self.is_decoded:
            return ImageFiles(self.folder / FILES)
        return load_array(self._pixels, np.uint8, num_axes=4, mmap_mode="r")

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """Returns the row of each image in `images.npy`, (N,) int64."""
        return load_array(self.folder / "rows.npy", np.int64)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Returns class numbers, (N,) int64."""
        return load_array(self.folder / "labels.npy", np.int64)

    @cached_property
    def names(self) -> list[str]:
        """Returns each image's origin: a path, with `#index` for a member of an idx file; length N."""
        return file_guard.read_names(self.folder / "names.json", WHAT, REMEDY)

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the number of images, their height, width and channels."""
        return (len(self), *self._images.shape[1:])

    def gather(self, indices: Rows) -> npt.NDArray[np.uint8]:
        """Copies some images, (len(indices), H, W, C) uint8."""
        return np.asarray(self._images[self.rows[indices]])

    def iterate(self, batches: Iterable[Rows]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yields batches of images, each given by its indices: (B, H, W, C) uint8."""
        if self._stream is not None and isinstance(self._images, ImageFiles):
            return self._stream(self._images, (self.rows[indices] for indices in batches))
        return map(self.gather, batches)

    def seal(self) -> None:
        """Writes the digests of the small files. That of all pixels would be computed as long as they are decoded."""
        atomic_files.write_json(self._digests, {path.name: compute_digest(path) for path in self._small}, checksum=True)

    def check(self, num_classes: int) -> int:
        """Checks the files of the split, all but the values of pixels, and returns the number of its images.

        Raises:
            CorruptFileError: they are damaged.
        """
        stored: dict[str, Any] = {}
        if self._digests.exists():  # of decoded images from before there was one only the form is checked
            stored = file_guard.read_json(self._digests, "digests of decoded images", REMEDY, dict)
        for path in self._small:
            with file_guard.guard(path, WHAT, REMEDY):
                if stored.get(path.name) not in (None, compute_digest(path)):
                    raise ValueError("other bytes than were written")
        num_images = len(self.labels)
        with file_guard.guard(self.folder, WHAT, REMEDY):
            require(len(self.rows) == len(self.names) == num_images, "rows, labels, names must agree", num_images)
            _require_below(self.rows, len(self._images), "rows")
            _require_below(self.labels, num_classes, "labels")
        return num_images

    @property
    def _digests(self) -> Path:
        return self.folder / "digests.json"

    @property
    def _small(self) -> list[Path]:
        files = [] if self.is_decoded else ImageFiles(self.folder / FILES).small_files
        return [*(self.folder / name for name in ("rows.npy", "labels.npy", "names.json")), *files]


def _require_below(numbers: npt.NDArray[np.int64], end: int, what: str) -> None:
    require(bool(np.all((numbers >= 0) & (numbers < end))), f"{what} must be in 0..{end - 1}", numbers.tolist()[:5])


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
    """Where they come from."""
    synthetic: bool
    """Whether raysweep has drawn them."""
    digest: str
    """SHA-256 over names, labels and contents of all decoded files, split by split."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of their numbers."""
    num_train: int
    """Training images."""
    num_val: int
    """Validation images."""
    num_test: int
    """Test images."""
    skipped: tuple[SkippedFile, ...] = ()
    """Files that could not be decoded, with the reason."""
    notes: tuple[str, ...] = ()
    """What a user may not expect of the images, a sentence each: the same image in two splits, for one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedData:
    """Training and validation images; nothing in it leads to the test split."""

    folder: Path
    info: DataInfo
    copies: Mapping[str, Path] = field(default_factory=dict)
    """Copies of decoded images on this node's own disk, by split."""
    stream: Stream | None = None
    """Decodes images ahead that are not kept decoded; none: when they are asked for."""

    @property
    def train(self) -> ImageSet:
        """Returns the training images."""
        return self._open("train")

    @property
    def val(self) -> ImageSet:
        """Returns the validation images."""
        return self._open("val")

    def _open(self, split: str) -> ImageSet:
        return ImageSet(self.folder / split, pixels=self.copies.get(split), stream=self.stream)

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
            kept = "images.npy" if images.is_decoded else FILES
            (place / kept).symlink_to(images.folder / kept)
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
        return PreparedData(folder=folder, info=file_guard.read_json(folder / "info.json", WHAT, REMEDY, decode))


def space_evenly(num_images: int, most: int | None) -> npt.NDArray[np.int64]:
    """Chooses at most so many positions in a split, evenly spaced: it may be sorted by class. None: all."""
    return np.linspace(0, num_images - 1, min(num_images, most or num_images)).round().astype(np.int64)
