"""Small prepared image sets and configurations for the tests of training. No Ray."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysweep import fields
from raysweep.config import AugmentationConfig, DataConfig, TrainingConfig, TrialConfig
from raysweep.data.images import DataInfo, PreparedData
from raysweep.tasks.classification import ClassificationConfig


def save_split(folder: Path, num_images: int, size: int, channels: int, num_classes: int, seed: int) -> None:
    """Noise with a brighter band of rows that tells the class, as data.images.ImageSet reads it."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(num_images) % num_classes)
    images = draw.integers(0, 120, (num_images, size, size, channels))
    band = size // num_classes
    for image, label in zip(images, labels, strict=True):
        image[label * band : (label + 1) * band] += 100
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images.astype(np.uint8))
    np.save(folder / "rows.npy", np.arange(num_images))
    np.save(folder / "labels.npy", labels.astype(np.int64))
    (folder / "names.json").write_text(json.dumps([f"{index}.png" for index in range(num_images)]))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The networks are so small that more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., PreparedData]:
    def make(num_train: int = 36, num_val: int = 21, size: int = 12, num_classes: int = 3) -> PreparedData:
        folder = tmp_path / f"data-{num_train}-{num_val}-{size}-{num_classes}"
        if not folder.exists():
            save_split(folder / "train", num_train, size, 3, num_classes, seed=1)
            save_split(folder / "val", num_val, size, 3, num_classes, seed=2)
            info = DataInfo(
                source="bands",
                synthetic=True,
                digest="0" * 64,
                classes=tuple(f"band-{index}" for index in range(num_classes)),
                num_train=num_train,
                num_val=num_val,
                num_test=0,
            )
            (folder / "info.json").write_text(json.dumps(fields.to_json(info)))
        return PreparedData.load(folder)

    return make


@pytest.fixture
def make_config() -> Callable[..., TrialConfig]:
    """Builds a configuration from the fields of all three parts by their plain names."""

    def make(seed: int = 0, size: int = 12, strength: float = 0.0, **values: Any) -> TrialConfig:
        task = {name: values.pop(name) for name in ClassificationConfig.__dataclass_fields__ if name in values}
        return TrialConfig(
            task=ClassificationConfig(**{"model": "fashion_cnn", **task}),
            data=DataConfig(image_size=size, augmentation=AugmentationConfig(strength=strength)),
            training=TrainingConfig(**{"epochs": 4, "batch_size": 8, "precision": "fp32", **values}),
            seed=seed,
        )

    return make
