"""Small prepared image sets for the tests of the judge. No Ray."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from raysweep import fields
from raysweep.data.images import DataInfo, PreparedData


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The networks are so small that more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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

    def make(num_images: int = 60, num_classes: int = 3, size: int = 18, channels: int = 1, seed: int = 0):
        return draw_bars(num_images, num_classes, size, channels, seed)

    return make


@pytest.fixture
def save_data(tmp_path: Path) -> Callable[..., PreparedData]:
    """`(train, val, num_classes)`, each split images and labels, as the cache of decoded images has them."""

    def save(
        train: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
        val: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
        num_classes: int,
    ) -> PreparedData:
        for name, (images, labels) in {"train": train, "val": val}.items():
            folder = tmp_path / "data" / name
            folder.mkdir(parents=True)
            np.save(folder / "images.npy", images)
            np.save(folder / "rows.npy", np.arange(len(images)))
            np.save(folder / "labels.npy", labels.astype(np.int64))
        info = DataInfo(
            source="bars",
            synthetic=True,
            digest="0" * 64,
            classes=tuple(f"bar-{index}" for index in range(num_classes)),
            num_train=len(train[1]),
            num_val=len(val[1]),
            num_test=0,
        )
        (tmp_path / "data" / "info.json").write_text(json.dumps(fields.to_json(info)))
        return PreparedData.load(tmp_path / "data")

    return save
