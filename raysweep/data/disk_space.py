"""Chooses which splits are kept decoded, by the space that the disk has."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from raysweep.config import DataConfig
from raysweep.data.records import SPLITS, Source, Split
from raysweep.errors import DataError

SHARE_OF_EVALUATION = 0.5
"""Images to evaluate on are kept decoded beside streamed ones where they take no more of the free space."""
WAYS_ON = "give another --storage, a smaller --set data.image_size, or --set data.cache=stream"


def fits(source: Source, config: DataConfig, cache: Path) -> bool:
    """Tells whether the disk can hold all images decoded."""
    return _measure(source, config, SPLITS) <= _measure_free(cache)


def choose_decoded(source: Source, config: DataConfig, cache: Path) -> tuple[Collection[Split], str]:
    """Chooses the splits that are kept decoded, and says what a user may not expect of that.

    Raises:
        DataError: all were asked for, and the disk cannot hold them.
    """
    if config.cache != "stream" and fits(source, config, cache):
        return SPLITS, ""
    side, free = config.decoded_size, _measure_free(cache)
    num_images, needed = sum(len(source.records[split]) for split in SPLITS), _measure(source, config, SPLITS)
    arithmetic = (
        f"{num_images:,} decoded images x {side} x {side} x {config.channels} bytes = {needed / 1e9:,.1f} GB, {cache} "
        f"has {free / 1e9:,.1f} GB free"
    )
    if config.cache == "decoded":
        raise DataError(f"{arithmetic}; {WAYS_ON}")
    decoded: list[Split] = []
    room, held_out = free * SHARE_OF_EVALUATION, SPLITS[1:]
    for split in held_out:
        if (size := _measure(source, config, [split])) <= room:
            decoded.append(split)
            room -= size
    kept = f"; kept decoded are {' and '.join(decoded)}" if decoded else ""
    why = f"data.cache=auto streams, as the disk is too small: {arithmetic}" * (config.cache == "auto")
    return decoded, f"{why or 'data.cache=stream'}; each epoch reads and decodes the images anew{kept}"


def _measure(source: Source, config: DataConfig, splits: Iterable[Split]) -> int:
    """Computes the size of splits, decoded, in bytes."""
    return sum(len(source.records[split]) for split in splits) * config.decoded_size**2 * config.channels


def _measure_free(cache: Path) -> int:
    """Asks for the free bytes of the disk that the cache is on, or will be."""
    return shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir())).free
