"""Decodes and resizes every image once, with Ray Data; the result is cached on disk by files and settings.

What the disk cannot hold decoded is only read, checked and counted here: each epoch decodes it anew.
"""

import dataclasses
import hashlib
import json
import math
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from raysweep import atomic_files, config_fields
from raysweep.cluster.lost_ray import run_on_ray
from raysweep.config import DataConfig
from raysweep.data.arrays import REMEDY
from raysweep.data.blocks import decode_block
from raysweep.data.disk_space import choose_decoded, fits
from raysweep.data.files import Decoding, ImageFiles
from raysweep.data.images import FILES, DataInfo, ImageSet, PreparedData
from raysweep.data.records import SPLITS, Source, Split
from raysweep.data.stream import set_up
from raysweep.data.summary import check_skipped, summarise
from raysweep.errors import CorruptFileError
from raysweep.stages import Stage, stage
from raysweep.storage_faults import say

MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 32, 4096
CACHE_VERSION = 1


def prepare(source: Source, config: DataConfig, cache: Path) -> tuple[PreparedData, Path]:
    """Prepares training and validation data, and apart from them the folder of the sealed test split.

    Everything is decoded by the first run on these files and settings, which needs a Ray connection, and
    found in `cache` by the next.

    Raises:
        DataError: more files than `config.max_bad_fraction` cannot be decoded, or the disk cannot hold them decoded
            and they are not to be streamed.
    """
    folder, test_folder = _places(source, config, cache)
    if not is_prepared(source, config, cache):
        decoded, why = choose_decoded(source, config, cache)
        if why:
            say(why)
        folder, test_folder = _folders(source, config, cache, streamed="train" not in decoded)
        with stage("decoding", sum(len(source.records[split]) for split in SPLITS), "images") as shown:
            run_on_ray(lambda: _decode(source, config, decoded, folder, test_folder, shown))
    info = PreparedData.load(folder).info
    # The same files may have been decoded under another name, the drawn sample as a plain folder for one.
    info = dataclasses.replace(info, source=source.name, synthetic=source.synthetic)
    check_skipped(info, config.max_bad_fraction)
    return PreparedData(folder=folder, info=info), test_folder


def is_prepared(source: Source, config: DataConfig, cache: Path) -> bool:
    """Checks whether everything is decoded already; what is damaged is said and removed, as it can be decoded again."""
    folder, test_folder = _places(source, config, cache)
    if not _is_whole(folder, test_folder):
        return False
    try:
        _check_decoded(PreparedData.load(folder), test_folder)
    except CorruptFileError as error:
        say(f"the images are decoded again: {error}")
        for place in (folder, test_folder):
            shutil.rmtree(place)
        return False
    return True


def reads_files(source: Source, config: DataConfig, cache: Path) -> bool:
    """Tells whether the files of images are read from now on: they are not decoded yet, or anew in each epoch."""
    streamed = _places(source, config, cache) == _folders(source, config, cache, streamed=True)
    return streamed or not is_prepared(source, config, cache)


def _is_whole(folder: Path, test_folder: Path) -> bool:
    return (folder / "info.json").exists() and (test_folder / "rows.npy").exists()


def _check_decoded(data: PreparedData, test_folder: Path) -> None:
    """Raises CorruptFileError on splits that are damaged, or not those of `data.info`."""
    info, test = data.info, ImageSet(test_folder)
    found = [images.check(len(info.classes)) for images in (data.train, data.val, test)]
    if found != [info.num_train, info.num_val, info.num_test]:
        raise CorruptFileError(f"{data.folder} must have as many images as its info.json says, got {found}; {REMEDY}")


def _places(source: Source, config: DataConfig, cache: Path) -> tuple[Path, Path]:
    """Returns the folders that the images are in, or would be in."""
    decoded = _folders(source, config, cache, streamed=False)
    is_decoded = config.cache == "decoded" or (
        config.cache == "auto" and (_is_whole(*decoded) or fits(source, config, cache))
    )
    return decoded if is_decoded else _folders(source, config, cache, streamed=True)


def _folders(source: Source, config: DataConfig, cache: Path, *, streamed: bool) -> tuple[Path, Path]:
    settings = [CACHE_VERSION, source.fingerprint(), config.decoded_size, config.channels, config.max_pixels]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16] + "-streamed" * streamed
    return cache / key, cache / f"{key}-test"


def _decode(
    source: Source, config: DataConfig, decoded: Collection[Split], folder: Path, test_folder: Path, shown: Stage
) -> None:
    """Decodes all splits into temporary folders beside their places and renames them when whole."""
    marker = uuid.uuid4().hex[:8]
    temporary = {place: place.with_name(f".{place.name}.{marker}") for place in (folder, test_folder)}
    into: dict[Split, Path] = {
        "train": temporary[folder] / "train",
        "val": temporary[folder] / "val",
        "test": temporary[test_folder],
    }
    try:
        info = _decode_splits(source, config, decoded, into, shown)
        atomic_files.write_json(temporary[folder] / "info.json", config_fields.to_json(info), checksum=True)
        for place in (test_folder, folder):
            atomic_files.rename_folder(temporary[place], place)
    finally:
        for path in temporary.values():
            shutil.rmtree(path, ignore_errors=True)


def _decode_splits(
    source: Source, config: DataConfig, decoded: Collection[Split], into: dict[Split, Path], shown: Stage
) -> DataInfo:
    """Decodes all images once; pixels are kept of the `decoded` splits, paths of the others."""
    decoding = Decoding(side=config.decoded_size, channels=config.channels, max_pixels=config.max_pixels)
    for split in SPLITS:
        into[split].mkdir(parents=True)
        ImageFiles.save(into[split] / FILES, source.records[split], decoding)
        if split in decoded:
            shape = (len(source.records[split]), decoding.side, decoding.side, decoding.channels)
            np.lib.format.open_memmap(into[split] / "images.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    reasons: dict[Split, list[str]] = {split: [""] * len(source.records[split]) for split in SPLITS}
    digests: dict[Split, list[str]] = {split: [""] * len(source.records[split]) for split in SPLITS}
    looks: dict[Split, list[bytes]] = {split: [b""] * len(source.records[split]) for split in SPLITS}
    for row in _run(source, into):
        reasons[row["split"]][row["row"]] = row["reason"]
        digests[row["split"]][row["row"]] = row["digest"]
        looks[row["split"]][row["row"]] = row["looks"]
        shown.num_done += 1
    for split in decoded:
        shutil.rmtree(into[split] / FILES)
    return summarise(source, into, reasons, digests, looks)


def _make_blocks(source: Source, num_cpus: float) -> list[pa.Table]:
    """Groups all records into blocks of one split each: a row with its bounds.

    A block has half of a CPU's share of what is left: few blocks, as Ray Data leaves a CPU idle for about 0.2 s between
    two tasks, and small ones at the end, so that no CPU waits for long (Polychronopoulos and Kuck 1987).
    """
    num_left = sum(len(source.records[split]) for split in SPLITS)
    least = max(MIN_BLOCK_ROWS, math.ceil(num_left / (16 * num_cpus)))
    blocks = []
    for split in SPLITS:
        num_rows, start = len(source.records[split]), 0
        while start < num_rows:
            size = min(max(math.ceil(num_left / (2 * num_cpus)), least), MAX_BLOCK_ROWS, num_rows - start)
            blocks.append(pa.table({"split": [split], "start": [start], "stop": [start + size]}))
            start += size
            num_left -= size
    return blocks


def _run(source: Source, into: dict[Split, Path]) -> Iterator[dict[str, Any]]:
    """Streams the records through Ray Data; yields a row for each."""
    set_up(ray.data.DataContext.get_current())
    num_cpus = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
    dataset = ray.data.from_blocks(_make_blocks(source, num_cpus)).map_batches(
        decode_block,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"into": into},
    )
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from table.to_pylist()
