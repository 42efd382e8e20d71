"""Small prepared image sets for the tests of the judge. No Ray."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from raysweep.data.images import PreparedData

Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@pytest.fixture(autouse=True)
def few_threads(one_thread: None) -> None:
    """All tests of this folder train networks that are small."""


def draw_bars(
    num_images: int, num_classes: int, size: int, channels: int, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(num_images) % num_classes)
    images = draw.integers(0, 60, (num_images, size, size, channels))
    band = size // num_classes
    for image, label in zip(images, labels, strict=True):
        image[label * band : (label + 1) * band] += 180
    return images.astype(np.uint8), labels.astype(np.int64)


@pytest.fixture
def make_bars() -> Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """`(num_images=60, num_classes=3, size=18, channels=1, seed=0)`: noise with a bright bar that tells the class."""

    def make(num_images: int = 60, num_classes: int = 3, size: int = 18, channels: int = 1, seed: int = 0) -> Labelled:
        return draw_bars(num_images, num_classes, size, channels, seed)

    return make


@pytest.fixture
def save_data(tmp_path: Path, save_prepared: Callable[..., PreparedData]) -> Callable[..., PreparedData]:
    """`(train, val, num_classes)`, each split images and labels, as the cache of decoded images has them."""

    def save(train: Labelled, val: Labelled, num_classes: int) -> PreparedData:
        classes = [f"bar-{index}" for index in range(num_classes)]
        return save_prepared(tmp_path / "data", {"train": train, "val": val}, classes)

    return save
