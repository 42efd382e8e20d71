"""Groups images that have no labels by how they look, so that reports can say what is generated or told apart."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from raysweep.data.images import ImageSet
from raysweep.data.records import SPLITS, Split

NUM_GROUPS = 10
SIDE = 8
"""Of the small versions that are compared, in pixels."""
CHUNK = 1000
NOTE = (
    "the images have no labels: reports tell {num} groups apart, found in train by k-means of the images at "
    "{side}x{side} pixels; they are of colour and layout, and stand for no meaning"
)


def group_images(folders: Mapping[Split, Path]) -> tuple[tuple[str, ...], dict[Split, npt.NDArray[np.int64]]]:
    """Finds groups in the training images; returns their names, and the group of each image of each split."""
    from sklearn.cluster import KMeans  # slow

    small = {split: _shrink(ImageSet(folders[split])) for split in SPLITS}
    num_groups = min(NUM_GROUPS, len(np.unique(small["train"], axis=0)))
    means = KMeans(num_groups, n_init=4, random_state=0).fit(small["train"])
    labels = {split: means.predict(images).astype(np.int64) for split, images in small.items()}
    return tuple(f"group {number}" for number in range(num_groups)), labels


def describe_groups(num_groups: int) -> str:
    """Says what the groups are."""
    return NOTE.format(num=num_groups, side=SIDE)


def _shrink(images: ImageSet) -> npt.NDArray[np.float32]:
    """Shrinks images to SIDE x SIDE, (N, SIDE * SIDE * C)."""
    small = []
    for rows in np.array_split(np.arange(len(images)), -(-len(images) // CHUNK)):
        for image in images.gather(rows):
            picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
            small.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).ravel())
    return np.array(small, dtype=np.float32)
