"""Looks once at every image of a source, small: sizes, formats, what cannot be decoded, and which are the same."""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysweep.config import DataConfig
from raysweep.cores import count_cores
from raysweep.data.decode import UndecodableImage, decode_image, measure_image, read_image_file
from raysweep.data.duplicates import Content, Group, find_duplicates, hash_looks
from raysweep.data.idx import load_idx
from raysweep.data.images import space_evenly
from raysweep.data.records import SPLITS, WHOLE_FILE, Records, Source, Split

SIDE = 64
"""Of the images as they are looked at, in pixels."""
GREY_LEVELS = 6
"""Largest difference of two channels of a grey image, on average over its pixels: JPEG leaves some colour."""
MAX_PIXELS = DataConfig().max_pixels


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of one image."""

    fault: str = ""
    """Why it cannot be decoded; empty: it can."""
    kind: str = ""
    """Its format."""
    width: int = 0
    height: int = 0
    is_grey: bool = False
    digest: str = ""
    looks: bytes = b""
    """Its perceptual hash."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is seen of all images, or of those that were looked at."""

    looks: dict[Split, list[Look]]
    groups: list[Group]
    """Images that are the same."""
    seen: list[Look] = field(init=False)
    """Those that can be decoded."""

    def __post_init__(self) -> None:
        seen = [look for split in self.looks.values() for look in split if not look.fault]
        object.__setattr__(self, "seen", seen)

    @property
    def formats(self) -> Counter[str]:
        """Counts the images of each format."""
        return Counter(look.kind for look in self.seen)

    @property
    def sides(self) -> npt.NDArray[np.int64]:
        """Returns width and height of each image, (N, 2)."""
        return np.array([(look.width, look.height) for look in self.seen], dtype=np.int64).reshape(-1, 2)

    @property
    def num_grey(self) -> int:
        """Counts the images without colour."""
        return sum(look.is_grey for look in self.seen)


def survey(source: Source) -> Survey:
    """Looks at every image, on all cores."""
    looks: dict[Split, list[Look]] = {}
    contents: list[Content] = []
    with ThreadPoolExecutor(count_cores()) as threads:
        for split in SPLITS:
            records = source.records[split]
            rows = range(len(records))
            looks[split] = list(threads.map(lambda row, records=records: look_at(records, row)[0], rows))
            contents += [
                Content(look.digest, split, source.classes[records.labels[row]], records.name(row), look.looks)
                for row, look in zip(rows, looks[split], strict=True)
                if not look.fault
            ]
    return Survey(looks, find_duplicates(contents))


def sample_train(source: Source, most: int) -> Survey:
    """Looks at `most` training images, evenly spaced, and at no other split; none is compared with others."""
    train = source.records["train"]
    rows = space_evenly(len(train), most).tolist()
    return Survey({"train": [look_at(train, row, hashed=False)[0] for row in rows]}, [])


def look_at(records: Records, row: int, *, hashed: bool = True) -> tuple[Look, npt.NDArray[np.uint8]]:
    """Looks at one image; returns its pixels too, (SIDE, SIDE, 3), black where it cannot be decoded."""
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    path = Path(records.paths[row])
    try:
        if records.members[row] != WHOLE_FILE:
            image = load_idx(path)[records.members[row]]
            height, width = image.shape
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            return Look("", "idx", width, height, True, digest), _enlarge(image)
        raw = read_image_file(path, MAX_PIXELS)
        kind, width, height = measure_image(raw)
        pixels = decode_image(raw, size=SIDE, channels=3, max_pixels=MAX_PIXELS)
    except (UndecodableImage, OSError) as error:
        return Look(str(error)), pixels
    looks = hash_looks(pixels) if hashed else b""
    is_grey = bool(np.ptp(pixels.astype(np.int16), axis=2).mean() <= GREY_LEVELS)
    return Look("", kind, width, height, is_grey, hashlib.sha256(raw).hexdigest(), looks), pixels


def _enlarge(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Enlarges a grey image to (SIDE, SIDE, 3) by repeating pixels."""
    rows, columns = (np.arange(SIDE) * length // SIDE for length in image.shape)
    return np.repeat(image[rows][:, columns, None], 3, axis=2)
