"""Trains a study's baseline step by step, as a trial does, on images that are drawn: speed does not depend on them."""

import dataclasses
import itertools
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep import atomic_files, config_fields
from raysweep.catalogue import load_study
from raysweep.data.batches import Ingredients, Worker, derive_seed, iterate_ingredients
from raysweep.data.images import DataInfo, PreparedData
from raysweep.data.placement import place
from raysweep.study import Study
from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.judge.store import FILE, SHIPPED
from raysweep.train.step import build_runner
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

NUM_CLASSES = 10
HOST_ONLY = 10**9
"""So many trials share a device that no images lie on it."""
HEAVY = {
    "car_resnet": ("task.schedule=cosine", "data.augmentation.strength=1", "task.label_smoothing=0.1"),
    "fashion_cnn": ("task.ema_decay=0.99", "task.gradient_clip_norm=1", "data.augmentation.strength=1"),
    "fashion_autoencoder": ("task.variant=variational",),
    "mnist_dcgan": ("task.spectral_norm=true", "task.ema_decay=0.99", "task.augmentation=colour_translation_cutout"),
    "mnist_gan": ("task.loss=wasserstein_gp",),
}
"""What makes a study's baseline cost most: each study, by its name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is done."""

    num_images: int
    num_steps: int
    repeats: int
    photo_model: str
    """Network of car_resnet."""
    photo_side: int
    """Side of the images of car_resnet."""
    photo_batch: int
    seconds: float
    """Of training side by side."""
    counts: tuple[int, ...]
    """Of processes side by side."""


FULL = Size(
    num_images=12_800, num_steps=60, repeats=3, photo_model="skresnet34", photo_side=224, photo_batch=64,
    seconds=4.0, counts=(1, 4, 8),
)  # fmt: skip
QUICK = Size(
    num_images=192, num_steps=2, repeats=1, photo_model="resnet10t", photo_side=32, photo_batch=4,
    seconds=0.2, counts=(1, 2),
)  # fmt: skip


def load(name: str, size: Size, *settings: str) -> Study:
    """Loads a study with its baseline at these settings; nothing is downloaded."""
    photos = {
        "task.model": size.photo_model,
        "task.pretrained": "false",
        "data.image_size": size.photo_side,
        "training.batch_size": size.photo_batch,
    }
    own = [f"{key}={value}" for key, value in photos.items()] if name == "car_resnet" else []
    return load_study(name).with_settings((*own, *settings))


def draw_data(folder: Path, study: Study, size: Size) -> PreparedData:
    """Draws images with a bright bar that tells the class, as the cache of decoded images keeps them."""
    if folder.exists():
        return PreparedData.load(folder)
    side, channels = study.data.decoded_size, study.data.channels
    num_train = min(size.num_images, max(4 * study.training.batch_size, size.num_images * 28 * 28 // side**2))
    random = np.random.default_rng(0)
    for split, count in (("train", num_train), ("val", 2 * NUM_CLASSES)):
        labels = np.arange(count) % NUM_CLASSES
        images = random.integers(0, 60, (count, side, side, channels), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[label * side // NUM_CLASSES : (label + 1) * side // NUM_CLASSES] += 150
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", images)
        np.save(folder / split / "labels.npy", labels.astype(np.int64))
        np.save(folder / split / "rows.npy", np.arange(count))
    info = DataInfo(
        source="drawn", synthetic=True, digest="", classes=tuple("0123456789"),
        num_train=num_train, num_val=2 * NUM_CLASSES, num_test=0,
    )  # fmt: skip
    atomic_files.write_json(folder / "info.json", config_fields.to_json(info))
    if isinstance(study.task, GanConfig):
        shutil.copyfile(SHIPPED, folder / FILE)  # of MNIST; one for these images would take a minute to train
    return PreparedData.load(folder)


class Trainer:
    """Runs training steps of a configuration, epoch after epoch, without evaluation."""

    def __init__(
        self, config: TrialConfig, data: PreparedData, device: torch.device, *, resident: bool = True, sharing: int = 1
    ) -> None:
        worker = Worker(device=device, num_sharing=sharing if resident else HOST_ONLY)
        torch.manual_seed(derive_seed(config.seed))
        self.config, self.device = config, device
        task = build_task(config, data.info, 1, data.folder)
        state = task.init_state(worker, lambda module: module)
        (images,) = place((data.train,), device, worker.num_sharing)
        self.runner = build_runner(task, state, images, config, worker, lambda notice: print(f"  {notice}", flush=True))
        self._seeds = itertools.count()
        self._ingredients = self._iterate(images, worker)

    def _iterate(self, images: Any, worker: Worker) -> Iterator[Ingredients]:
        size = self.config.training.batch_size
        for epoch in itertools.count():
            batches = iterate_ingredients(images, self.config.data, batch_size=size, seed=0, epoch=epoch, worker=worker)
            yield from (batch for batch in batches if len(batch.indices) == size)

    def run(self, num_steps: int) -> int:
        """Runs so many steps of whole batches, and returns how many images they were."""
        for _ in range(num_steps):
            self.runner.run(next(self._ingredients), next(self._seeds))
        return num_steps * self.config.training.batch_size

    def measure(self, num_steps: int) -> float:
        """Measures images/s after some steps that are not counted."""
        self.run(max(2, num_steps // 4))
        return time_images(lambda: self.run(num_steps), self.device)


def time_images(run: Any, device: torch.device) -> float:
    """Measures images/s of a function that returns their number."""
    wait(device)
    began = time.perf_counter()
    num_images = run()
    wait(device)
    return float(num_images / (time.perf_counter() - began))


def wait(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def are_finite(rows: list[dict[str, float]]) -> bool:
    """Tells whether all metrics of all epochs are finite."""
    return all(math.isfinite(value) for row in rows for value in row.values())
