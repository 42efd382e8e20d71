"""Finds images in folders of idx files, the format of MNIST and Fashion-MNIST."""

from pathlib import Path

import numpy as np

from raysweep.data.idx import find_idx_file, load_idx, name_classes
from raysweep.data.records import Records, Source, split_stratified
from raysweep.data.sources import WAYS_ON
from raysweep.errors import DataError

IDX_VAL_SHARE = 0.20


def load_idx_source(folder: Path, *, name: str, split_seed: int) -> Source:
    """Finds images in idx files: a seeded, stratified 20 % of the training files is the validation split.

    Raises:
        DataError: a file is missing, damaged or does not fit the others.
    """
    paths = {}
    for part in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        path = find_idx_file(folder, part)
        if path is None:
            raise DataError(f"{folder} has some idx files but no {part} or {part}.gz.\n{WAYS_ON}")
        paths[part] = path.resolve()
    pools = {}
    for prefix in ("train", "t10k"):
        images, labels = paths[f"{prefix}-images-idx3-ubyte"], load_idx(paths[f"{prefix}-labels-idx1-ubyte"])
        if load_idx(images).shape[:1] != labels.shape or load_idx(images).ndim != 3:
            raise DataError(f"{images} has shape {load_idx(images).shape} for {len(labels)} labels; they must match")
        if not load_idx(images).size:
            raise DataError(f"{images} has no images")
        pools[prefix] = Records(
            paths=[str(images)] * len(labels), members=np.arange(len(labels)), labels=labels.astype(np.int64)
        )
    pool = pools["train"]
    if len(np.unique(pool.labels)) < 2:
        raise DataError(f"{folder} has one class in train, {pool.labels[0]}: classification needs at least 2")
    if unknown := sorted(set(pools["t10k"].labels.tolist()) - set(pool.labels.tolist())):
        raise DataError(f"{folder} has classes in t10k that train has no images of: {', '.join(map(str, unknown))}")
    try:
        classes = name_classes(pool.labels.astype(np.uint8))
    except DataError as error:
        raise DataError(f"{paths['train-labels-idx1-ubyte']}: {error}") from None
    train, val = split_stratified(pool.labels, IDX_VAL_SHARE, split_seed)
    return Source(
        name=name,
        classes=classes,
        records={"train": pool.take(train), "val": pool.take(val), "test": pools["t10k"]},
    )
