"""Images that stay files: each is read, decoded and resized whenever it is asked for."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from raysweep import atomic_files, config_fields, file_guard
from raysweep.cores import count_cores
from raysweep.data.arrays import REMEDY, WHAT, load_array
from raysweep.data.decode import UndecodableImage, decode_image, read_image_file
from raysweep.data.idx import load_idx
from raysweep.data.records import WHOLE_FILE, Records
from raysweep.errors import DataError
from raysweep.storage_faults import find_fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How images are decoded."""

    side: int
    channels: Literal[1, 3]
    max_pixels: int

    @property
    def image_bytes(self) -> int:
        """Returns the size of a decoded image."""
        return self.side * self.side * self.channels


class ImageFiles:
    """The files of one split, by reference: `files[rows]` decodes some, as the array of decoded images gives them.

    Paths and members are memory-mapped: of a million, the trials of a node share the pages.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[type["ImageFiles"], tuple[Path]]:
        return ImageFiles, (self.folder,)

    @staticmethod
    def save(folder: Path, records: Records, decoding: Decoding) -> None:
        """Writes down what is decoded, and how."""
        folder.mkdir()
        np.save(folder / "paths.npy", np.array([os.fsencode(path) for path in records.paths], dtype=np.bytes_))
        np.save(folder / "members.npy", records.members.astype(np.int64))
        atomic_files.write_json(folder / "decoding.json", config_fields.to_json(decoding), checksum=True)

    @property
    def small_files(self) -> list[Path]:
        """Lists the files that it consists of."""
        return [self.folder / name for name in ("paths.npy", "members.npy", "decoding.json")]

    @cached_property
    def decoding(self) -> Decoding:
        """Returns how they are decoded."""
        return file_guard.read_json(
            self.folder / "decoding.json", WHAT, REMEDY, lambda values: config_fields.from_json(Decoding, values)
        )

    @cached_property
    def _paths(self) -> npt.NDArray[np.bytes_]:
        return load_array(self.folder / "paths.npy", np.bytes_, mmap_mode="r")

    @cached_property
    def _members(self) -> npt.NDArray[np.int64]:
        return load_array(self.folder / "members.npy", np.int64, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the number of files, and the height, width and channels of a decoded image."""
        return (len(self), self.decoding.side, self.decoding.side, self.decoding.channels)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Decodes some images on all cores, (len(rows), H, W, C) uint8.

        Raises:
            DataError: one cannot be decoded any more.
            StorageError: one is out of reach.
        """
        decoded = self.allocate(len(rows))
        with ThreadPoolExecutor(count_cores()) as threads:
            list(threads.map(self._decode_or_raise, rows.tolist(), decoded))
        return decoded

    def decode_in_turn(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Decodes some images on one core, (len(rows), H, W, C) uint8.

        Raises:
            DataError: one cannot be decoded any more.
            StorageError: one is out of reach.
        """
        decoded = self.allocate(len(rows))
        for row, into in zip(rows.tolist(), decoded, strict=True):
            self._decode_or_raise(row, into)
        return decoded

    def is_whole(self, row: int) -> bool:
        """Tells whether an image is a file of its own, none of an idx file's."""
        return int(self._members[row]) == WHOLE_FILE

    def allocate(self, num_images: int) -> npt.NDArray[np.uint8]:
        """Makes room for decoded images; those that cannot be decoded stay black."""
        return np.zeros((num_images, *self.shape[1:]), dtype=np.uint8)

    def decode(self, row: int, into: npt.NDArray[np.uint8]) -> tuple[str, UndecodableImage | OSError | None]:
        """Decodes an image into an array (side, side, channels).

        Returns the digest of its raw bytes and why it could not be decoded, none: it was.
        """
        path, member = Path(os.fsdecode(self._paths[row])), int(self._members[row])
        raw = b""
        problem: UndecodableImage | OSError | None = None
        try:
            if member == WHOLE_FILE:
                decoding = self.decoding
                raw = read_image_file(path, decoding.max_pixels)
                into[:] = decode_image(
                    raw, size=decoding.side, channels=decoding.channels, max_pixels=decoding.max_pixels
                )
            else:
                image = load_idx(path)[member]
                raw = image.tobytes()
                into[:] = _resize_grey(image, into.shape[0])
        except (UndecodableImage, OSError) as error:
            problem = error
        return hashlib.sha256(raw).hexdigest(), problem

    def _decode_or_raise(self, row: int, into: npt.NDArray[np.uint8]) -> None:
        _, problem = self.decode(row, into)
        path = Path(os.fsdecode(self._paths[row]))
        if isinstance(problem, OSError):
            raise find_fault(problem, path.parent) or problem
        if problem is not None:
            raise DataError(f"{path} could be decoded before the search and cannot now: {problem}; restore it")


def _resize_grey(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Stretches a grey image (H, W) to (side, side, 1), which broadcasts to three channels."""
    if image.shape != (side, side):
        image = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    return image[:, :, None]
