"""Small prepared sets of grey 28x28 images with a judge beside them, and GAN configurations. No Ray."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysweep import fields
from raysweep.config import DataConfig, TrainingConfig, TrialConfig
from raysweep.data.images import DataInfo, PreparedData
from raysweep.judge.network import save_judge
from raysweep.judge.store import FILE
from raysweep.judge.training import train_judge
from raysweep.models.noise import NoiseSchedule
from raysweep.tasks.gan_config import GanConfig

SIDE, NUM_CLASSES = 28, 4


def save_squares(folder: Path, num_images: int, seed: int) -> None:
    """A bright square in the quarter of the image that tells the class, as data.images.ImageSet reads it."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(num_images) % NUM_CLASSES)
    images = draw.integers(0, 30, (num_images, SIDE, SIDE, 1))
    for image, label in zip(images, labels, strict=True):
        top, left = 14 * np.array(divmod(int(label), 2)) + draw.integers(1, 6, 2)
        image[top : top + 7, left : left + 7] += 200
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images.astype(np.uint8))
    np.save(folder / "rows.npy", np.arange(num_images))
    np.save(folder / "labels.npy", labels.astype(np.int64))
    (folder / "names.json").write_text(json.dumps([f"{index}.png" for index in range(num_images)]))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The networks are so small that more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """40 training and 24 validation images in four classes, and the judge that was trained for them."""
    folder = tmp_path_factory.mktemp("squares")
    save_squares(folder / "train", 40, seed=1)
    save_squares(folder / "val", 24, seed=2)
    info = DataInfo(
        source="squares",
        synthetic=True,
        digest="0" * 64,
        classes=tuple(f"square-{index}" for index in range(NUM_CLASSES)),
        num_train=40,
        num_val=24,
        num_test=0,
    )
    (folder / "info.json").write_text(json.dumps(fields.to_json(info)))
    data = PreparedData.load(folder)
    rows = np.arange(40)
    judge = train_judge(data.train.gather(rows), data.train.labels, NUM_CLASSES, epochs=60)
    save_judge(folder / FILE, judge, {"source": "squares"})
    return data


@pytest.fixture(scope="session")
def make_gan_config() -> Callable[..., TrialConfig]:
    """Builds a configuration from the fields of the task (`noise` as a dict), of training and the seed."""

    def make(seed: int = 0, noise: dict[str, Any] | None = None, **values: Any) -> TrialConfig:
        task = {name: values.pop(name) for name in GanConfig.__dataclass_fields__ if name in values}
        return TrialConfig(
            task=GanConfig(**{"network": "dense", "latent_size": 8, **task}, noise=NoiseSchedule(**noise or {})),
            data=DataConfig(image_size=SIDE, channels=1, normalization="symmetric"),
            training=TrainingConfig(**{"epochs": 4, "batch_size": 8, "precision": "fp32", **values}),
            seed=seed,
        )

    return make
