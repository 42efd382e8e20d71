"""Decodes and resizes every image once, with Ray Data; the result is cached on disk by files and settings."""

import dataclasses
import hashlib
import json
import logging
import math
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from PIL import Image

from raysweep import atomic_files, config_fields
from raysweep.announcement import announce
from raysweep.cluster.lost_ray import run_on_ray
from raysweep.config import DataConfig
from raysweep.data.decode import UndecodableImage, decode_image, read_image_file
from raysweep.data.duplicates import Content, describe_duplicates
from raysweep.data.idx import load_idx
from raysweep.data.images import REMEDY, DataInfo, ImageSet, PreparedData, SkippedFile
from raysweep.data.records import SPLITS, WHOLE_FILE, Source, Split
from raysweep.errors import CorruptFileError, DataError
from raysweep.storage_faults import guard_writing

BLOCKS_PER_CPU = 4
"""Few: Ray Data leaves a CPU idle for about 0.2 s between two tasks; not one: shares have to be equal."""
MIN_BLOCK_ROWS = 32
SYNC_ROWS = 64
CACHE_VERSION = 1


def prepare(source: Source, config: DataConfig, cache: Path) -> tuple[PreparedData, Path]:
    """Prepares training and validation data, and apart from them the folder of the sealed test split.

    Everything is decoded by the first run on these files and settings, which needs a Ray connection, and
    found in `cache` by the next.

    Raises:
        DataError: more files than `config.max_bad_fraction` cannot be decoded, or the disk cannot hold them decoded.
    """
    folder, test_folder = _folders(source, config, cache)
    if not is_prepared(source, config, cache):
        _check_disk(source, config, cache)
        with announce("the images to be decoded"):
            run_on_ray(lambda: _decode(source, config, folder, test_folder))
    info = PreparedData.load(folder).info
    # The same files may have been decoded under another name, the drawn sample as a plain folder for one.
    info = dataclasses.replace(info, source=source.name, synthetic=source.synthetic)
    _check_skipped(info, config.max_bad_fraction)
    return PreparedData(folder=folder, info=info), test_folder


def is_prepared(source: Source, config: DataConfig, cache: Path) -> bool:
    """Checks whether everything is decoded already; what is damaged is said and removed, as it can be decoded again."""
    folder, test_folder = _folders(source, config, cache)
    if not (folder / "info.json").exists() or not (test_folder / "rows.npy").exists():
        return False
    try:
        _check_decoded(PreparedData.load(folder), test_folder)
    except CorruptFileError as error:
        print(f"the images are decoded again: {error}", file=sys.stderr)
        for place in (folder, test_folder):
            shutil.rmtree(place)
        return False
    return True


def _check_decoded(data: PreparedData, test_folder: Path) -> None:
    """Raises CorruptFileError on splits that are damaged, or not those of `data.info`."""
    info, test = data.info, ImageSet(test_folder)
    found = [images.check(len(info.classes)) for images in (data.train, data.val, test)]
    if found != [info.num_train, info.num_val, info.num_test]:
        raise CorruptFileError(f"{data.folder} must have as many images as its info.json says, got {found}; {REMEDY}")


def _folders(source: Source, config: DataConfig, cache: Path) -> tuple[Path, Path]:
    settings = [CACHE_VERSION, source.fingerprint(), config.decoded_size, config.channels, config.max_pixels]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    return cache / key, cache / f"{key}-test"


def _decode(source: Source, config: DataConfig, folder: Path, test_folder: Path) -> None:
    """Decodes all splits into temporary folders beside their places and renames them when whole."""
    marker = uuid.uuid4().hex[:8]
    temporary = {place: place.with_name(f".{place.name}.{marker}") for place in (folder, test_folder)}
    into: dict[Split, Path] = {
        "train": temporary[folder] / "train",
        "val": temporary[folder] / "val",
        "test": temporary[test_folder],
    }
    try:
        info = _decode_splits(source, config, into)
        atomic_files.write_json(temporary[folder] / "info.json", config_fields.to_json(info), checksum=True)
        for place in (test_folder, folder):
            _rename(temporary[place], place)
    finally:
        for path in temporary.values():
            shutil.rmtree(path, ignore_errors=True)


def _check_disk(source: Source, config: DataConfig, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    num_images = sum(len(source.records[split]) for split in SPLITS)
    side, channels = config.decoded_size, config.channels
    needed, free = num_images * side * side * channels, shutil.disk_usage(cache).free
    if needed > free:
        raise DataError(
            f"{num_images:,} decoded images x {side} x {side} x {channels} bytes = {needed / 1e9:,.1f} GB, {cache} has "
            f"{free / 1e9:,.1f} GB free; give another --storage, or a smaller --set data.image_size"
        )


def _rename(temporary: Path, place: Path) -> None:
    """Renames a folder; where another run was first with the same content, its folder stays."""
    try:
        temporary.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _decode_splits(source: Source, config: DataConfig, into: dict[Split, Path]) -> DataInfo:
    side = config.decoded_size
    for split in SPLITS:
        into[split].mkdir(parents=True)
        shape = (len(source.records[split]), side, side, config.channels)
        np.lib.format.open_memmap(into[split] / "images.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    reasons: dict[Split, list[str]] = {split: [""] * len(source.records[split]) for split in SPLITS}
    digests: dict[Split, list[str]] = {split: [""] * len(source.records[split]) for split in SPLITS}
    for row in _run(source, config, into):
        reasons[row["split"]][row["row"]] = row["reason"]
        digests[row["split"]][row["row"]] = row["digest"]
    return _summarise(source, into, reasons, digests)


def _make_blocks(source: Source, num_cpus: float) -> list[pa.Table]:
    """Groups all records into blocks of one split each."""
    num_images = sum(len(source.records[split]) for split in SPLITS)
    rows_per_block = max(MIN_BLOCK_ROWS, math.ceil(num_images / (BLOCKS_PER_CPU * num_cpus)))
    blocks = []
    for split in SPLITS:
        records = source.records[split]
        for rows in np.array_split(np.arange(len(records)), max(1, math.ceil(len(records) / rows_per_block))):
            block = {
                "split": [split] * len(rows),
                "row": rows,
                "path": [records.paths[row] for row in rows],
                "member": records.members[rows],
            }
            blocks.append(pa.table(block))
    return blocks


def _run(source: Source, config: DataConfig, into: dict[Split, Path]) -> Iterator[dict[str, Any]]:
    """Streams the records through Ray Data; yields a row for each."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # else a fault of the storage arrives as text
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.ERROR)
    num_cpus = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
    dataset = ray.data.from_arrow(_make_blocks(source, num_cpus)).map_batches(
        decode_block,  # type: ignore[arg-type]
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={
            "into": into,
            "side": config.decoded_size,
            "channels": config.channels,
            "max_pixels": config.max_pixels,
        },
    )
    yield from dataset.iter_rows()


def decode_block(
    block: pa.Table, *, into: dict[Split, Path], side: int, channels: Literal[1, 3], max_pixels: int
) -> pa.Table:
    """Reads and decodes the records of a block, which is a run of rows of one split, into its images.npy.

    Returns a row for each record: split, row, reason ("" when decoded), digest of the raw bytes.
    """
    records = block.to_pylist()
    path = into[records[0]["split"]] / "images.npy"
    offset = np.load(path, mmap_mode="r").offset
    reasons, digests, synced = [], [], []
    # Written bytes are synced beside the decoding: waiting for the disk at the end would leave the CPU idle.
    with guard_writing(path), path.open("r+b") as file, ThreadPoolExecutor(max_workers=1) as syncing:
        for start in range(0, len(records), SYNC_ROWS):
            part = records[start : start + SYNC_ROWS]
            decoded = np.zeros((len(part), side, side, channels), dtype=np.uint8)
            for position, record in enumerate(part):
                raw, reason = _decode_record(record, decoded[position], max_pixels)
                reasons.append(reason)
                digests.append(hashlib.sha256(raw).hexdigest())
            file.seek(offset + part[0]["row"] * decoded[0].nbytes)
            file.write(decoded.data)
            file.flush()
            synced.append(syncing.submit(os.fdatasync, file.fileno()))
        for future in synced:
            future.result()  # a full or failing disk is an error of this block
    return pa.table({"split": block["split"], "row": block["row"], "reason": reasons, "digest": digests})


def _decode_record(record: dict[str, Any], into: npt.NDArray[np.uint8], max_pixels: int) -> tuple[bytes, str]:
    """Decodes a record into an array (side, side, channels); returns its raw bytes and why it could not be ("")."""
    raw = b""
    try:
        if record["member"] == WHOLE_FILE:
            raw = read_image_file(Path(record["path"]), max_pixels)
            into[:] = decode_image(
                raw, size=into.shape[0], channels=1 if into.shape[2] == 1 else 3, max_pixels=max_pixels
            )
        else:
            image = load_idx(Path(record["path"]))[record["member"]]
            raw = image.tobytes()
            into[:] = _resize_grey(image, into.shape[0])
    except (UndecodableImage, OSError) as error:
        return raw, str(error)
    return raw, ""


def _resize_grey(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Stretches a grey image (H, W) to (side, side, 1), which broadcasts to three channels."""
    if image.shape != (side, side):
        image = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    return image[:, :, None]


def _summarise(
    source: Source,
    into: dict[Split, Path],
    reasons: dict[Split, list[str]],
    digests: dict[Split, list[str]],
) -> DataInfo:
    """Writes rows, labels and names of the decoded images, and returns the facts of the whole set."""
    digest = hashlib.sha256()
    skipped: list[SkippedFile] = []
    counts: dict[Split, int] = {}
    contents: list[Content] = []
    for split in SPLITS:
        records = source.records[split]
        bad = np.array([bool(reason) for reason in reasons[split]], dtype=bool)
        rows: npt.NDArray[np.int64] = np.flatnonzero(~bad)
        counts[split] = len(rows)
        skipped += [
            SkippedFile(path=records.paths[row], split=split, reason=reasons[split][row]) for row in np.flatnonzero(bad)
        ]
        names = [
            records.paths[row] if records.members[row] == WHOLE_FILE else f"{records.paths[row]}#{records.members[row]}"
            for row in rows
        ]
        np.save(into[split] / "rows.npy", rows)
        np.save(into[split] / "labels.npy", records.labels[rows])
        atomic_files.write_text(into[split] / "names.json", json.dumps(names))
        ImageSet(into[split]).seal()
        digest.update(split.encode())
        for row in rows:
            digest.update(f"{digests[split][row]} {source.classes[records.labels[row]]}\n".encode())
        labels = (source.classes[label] for label in records.labels[rows])
        contents += map(Content, (digests[split][row] for row in rows), repeat(split), labels, names)
    return DataInfo(
        source=source.name,
        synthetic=source.synthetic,
        digest=digest.hexdigest(),
        classes=source.classes,
        num_train=counts["train"],
        num_val=counts["val"],
        num_test=counts["test"],
        skipped=tuple(skipped),
        notes=describe_duplicates(contents),
    )


def _check_skipped(info: DataInfo, max_bad_fraction: float) -> None:
    counts = {"train": info.num_train, "val": info.num_val, "test": info.num_test}
    total = sum(counts.values()) + len(info.skipped)
    share = len(info.skipped) / total
    shown = "".join(f"\n  {skipped.path}: {skipped.reason}" for skipped in info.skipped[:10])
    more = f"\n  and {len(info.skipped) - 10} more" if len(info.skipped) > 10 else ""
    if share > max_bad_fraction:
        raise DataError(
            f"{len(info.skipped)} of {total} files cannot be decoded ({share:.1%}), the limit is "
            f"{max_bad_fraction:.1%}; mend or remove them, or raise the limit with "
            f"--set data.max_bad_fraction={_round_up(share)}:{shown}{more}"
        )
    if empty := [split for split, count in counts.items() if not count]:
        raise DataError(f"no file of {' and '.join(empty)} can be decoded; mend them:{shown}{more}")


def _round_up(share: float) -> str:
    """Rounds a share in (0, 1] up to two significant digits."""
    digits = max(2, 1 - math.floor(math.log10(share)))
    return f"{math.ceil(share * 10**digits) / 10**digits:.{digits}f}"
