"""Small prepared image sets and configurations for the tests of training. No Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.config import AugmentationConfig, DataConfig, TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.trial_config import TrialConfig


def draw_bands(num_images: int, size: int, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise (N, size, size, 3) with a brighter band of rows that tells the class, and labels."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(num_images) % num_classes)
    images = draw.integers(0, 120, (num_images, size, size, 3))
    band = size // num_classes
    for image, label in zip(images, labels, strict=True):
        image[label * band : (label + 1) * band] += 100
    return images, labels


@pytest.fixture(autouse=True)
def few_threads(one_thread: None) -> None:
    """All tests of this folder train networks that are small."""


@pytest.fixture
def make_data(tmp_path: Path, save_prepared: Callable[..., PreparedData]) -> Callable[..., PreparedData]:
    def make(num_train: int = 36, num_val: int = 21, size: int = 12, num_classes: int = 3) -> PreparedData:
        folder = tmp_path / f"data-{num_train}-{num_val}-{size}-{num_classes}"
        if folder.exists():
            return PreparedData.load(folder)
        splits = {
            "train": draw_bands(num_train, size, num_classes, seed=1),
            "val": draw_bands(num_val, size, num_classes, seed=2),
        }
        return save_prepared(folder, splits, [f"band-{index}" for index in range(num_classes)])

    return make


@pytest.fixture
def make_config() -> Callable[..., TrialConfig]:
    """Builds a configuration from the fields of all three parts by their plain names; checkpoints each epoch."""

    def make(seed: int = 0, size: int = 12, strength: float = 0.0, **values: Any) -> TrialConfig:
        task = {name: values.pop(name) for name in ClassificationConfig.__dataclass_fields__ if name in values}
        return TrialConfig(
            task=ClassificationConfig(**{"model": "fashion_cnn", **task}),
            data=DataConfig(image_size=size, augmentation=AugmentationConfig(strength=strength)),
            training=TrainingConfig(
                **{"epochs": 4, "batch_size": 8, "precision": "fp32", "checkpoint_period_s": 0.0, **values}
            ),
            seed=seed,
        )

    return make
