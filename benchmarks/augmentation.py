"""Augmentation of a batch at once: what it costs a trial, against the same image by image and against torchvision.

Claims: a trial of Fashion CNN at 28x28 trains at least 0.93 times as fast with augmentation as without; a batch at
224x224 is augmented at least 2 times as fast as image by image; and no slower than torchvision v2 does the same in
a DataLoader's workers, as many as the threads that are given here.
Peers: the functions of torchvision v2 called for one image after the other, with the same draws and the same results
(on white noise to 1e-4); `RandomResizedCrop`, `RandomRotation`, `RandomHorizontalFlip` and `ColorJitter` of torchvision
v2 on float images, in a DataLoader. Parts take turns, the order reversed each time; images are noise.
With one thread the CPU time of this process is taken, where other work beside blurs it less.

    .venv/bin/python benchmarks/augmentation.py [--threads N]        # about 3 min

Measured: see benchmarks/README.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _bare_cnn import BATCH
from _report import Interval, alternate, bootstrap_median, finish, warn_if_busy
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms
from training_throughput import save_prepared

from raysweep.config import AugmentationConfig, DataConfig, Objective, TrainingConfig
from raysweep.data.augment import apply_augmentation, draw_augmentation
from raysweep.data.images import PreparedData
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.loop import fit
from raysweep.train.precision import prepare_process
from raysweep.trial_config import TrialConfig

AUGMENTATION = AugmentationConfig(strength=1.0)


def draw_images(num_images: int, side: int, channels: int) -> np.ndarray:
    """Noise (N, H, W, C) uint8, as the cache of decoded images keeps them."""
    return np.random.default_rng(0).integers(0, 256, (num_images, side, side, channels), dtype=np.uint8)


def augment_batch(pixels: np.ndarray, generator: torch.Generator) -> torch.Tensor:
    """What a trial does, from decoded pixels on."""
    size = pixels.shape[1]
    drawn = draw_augmentation(len(pixels), size, AUGMENTATION, size, generator)
    return apply_augmentation(torch.from_numpy(pixels).permute(0, 3, 1, 2), drawn, AUGMENTATION, size)


def augment_one_by_one(pixels: np.ndarray, generator: torch.Generator) -> torch.Tensor:
    """The same by torchvision's functions for one image."""
    config = AUGMENTATION
    images, size = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255), pixels.shape[1]
    changed = []
    for image, draws in zip(images, torch.rand(len(images), 7, generator=generator).tolist(), strict=True):
        cut, top, left, angle, mirror, brightness, contrast = draws
        window = round(size * (1 - config.random_crop * cut))
        place = [round(top * (size - window)), round(left * (size - window)), window, window]
        image = transforms.resized_crop(image, *place, size=[size, size], antialias=True)
        image = transforms.rotate(image, (2 * angle - 1) * config.rotation_degrees, v2.InterpolationMode.BILINEAR)
        if mirror < config.horizontal_flip:
            image = transforms.horizontal_flip(image)
        image = transforms.adjust_brightness(image, 1 + (2 * brightness - 1) * config.brightness)
        changed.append(transforms.adjust_contrast(image, 1 + (2 * contrast - 1) * config.contrast))
    return torch.stack(changed)


class Noise(Dataset[torch.Tensor]):
    """Decoded images, changed by torchvision's transforms in the process of a DataLoader."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        smallest = (1 - AUGMENTATION.random_crop) ** 2
        self.transform = v2.Compose(
            [
                v2.ToDtype(torch.float32, scale=True),
                v2.RandomResizedCrop(pixels.shape[1], scale=(smallest, 1.0), ratio=(1.0, 1.0)),
                v2.RandomRotation(AUGMENTATION.rotation_degrees, v2.InterpolationMode.BILINEAR),
                v2.RandomHorizontalFlip(AUGMENTATION.horizontal_flip),
                v2.ColorJitter(AUGMENTATION.brightness, AUGMENTATION.contrast),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        changed: torch.Tensor = self.transform(self.pixels[index])
        return changed


def measure_training(data: PreparedData, strength: float, clock: Callable[[], float]) -> float:
    """Images/s of a trial of one epoch, its start and its evaluation of a batch included."""
    config = TrialConfig(
        task=ClassificationConfig(model="fashion_cnn", dropout=0.5, weight_decay=1e-5),
        data=DataConfig(
            image_size=28, channels=1, normalization="unit", augmentation=AugmentationConfig(strength=strength)
        ),
        training=TrainingConfig(epochs=1, batch_size=BATCH, precision="fp32"),
    )
    began = clock()
    fit(config, data, Objective(metric="val/accuracy"), report=lambda report: None)
    return data.info.num_train / (clock() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6400, help="of 28x28 in a measurement; default %(default)s")
    parser.add_argument("--pairs", type=int, default=9, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default %(default)s")
    args = parser.parse_args()
    warn_if_busy()
    prepare_process(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    images = {side: draw_images(count, side, channels) for side, count, channels in ((28, 128, 1), (224, 32, 3))}
    ratios = {f"one_by_one_over_batch_{side}": measure_code(images[side], clock, args.pairs) for side in images}
    ratios["batch_over_dataloader_224"] = measure_loader(images[224], args.threads, args.pairs)
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        pixels = draw_images(args.images, 28, 1)[:, :, :, 0]
        labels = np.arange(args.images) % 10
        data = save_prepared(Path(temporary), {"train": (pixels, labels), "val": (pixels[:128], labels[:128])})
        ratios["training_with_over_without"] = measure_trials(data, clock, args.pairs)
    finish("augmentation", ratios=ratios, n=args.pairs, values={"threads": args.threads})


def measure_code(pixels: np.ndarray, clock: Callable[[], float], num_pairs: int) -> Interval:
    """How many times as fast a batch at once is as its images one by one; checks that they come to the same."""
    parts = {"one by one": augment_one_by_one, "batch": augment_batch}

    def take_time(part: Callable[[np.ndarray, torch.Generator], torch.Tensor]) -> float:
        began = clock()
        part(pixels, torch.Generator().manual_seed(0))
        return clock() - began

    timed = {name: partial(take_time, part) for name, part in parts.items()}
    one_by_one, batch = (part(pixels, torch.Generator().manual_seed(0)) for part in parts.values())
    torch.testing.assert_close(batch, one_by_one, rtol=0, atol=1e-4)
    pairs = [alternate(timed, index) for index in range(num_pairs)]
    for name in parts:
        seconds = statistics.median(pair[name] for pair in pairs) / len(pixels)
        print(f"{pixels.shape[1]} pixels a side, {name}: {seconds * 1e6:,.1f} us an image", flush=True)
    return bootstrap_median([pair["one by one"] / pair["batch"] for pair in pairs])


def measure_loader(pixels: np.ndarray, num_workers: int, num_pairs: int) -> Interval:
    """Images/s of batches at once over those that torchvision's transforms make in a DataLoader's workers."""
    loader = DataLoader(
        Noise(np.concatenate([pixels] * 4)), len(pixels), num_workers=num_workers, persistent_workers=True
    )

    def load() -> float:
        iterator = iter(loader)
        began = time.perf_counter()
        count = sum(len(batch) for batch in iterator)
        return count / (time.perf_counter() - began)

    def augment_here() -> float:
        began = time.perf_counter()
        for seed in range(4):
            augment_batch(pixels, torch.Generator().manual_seed(seed))
        return 4 * len(pixels) / (time.perf_counter() - began)

    parts: dict[str, Callable[[], Any]] = {"batch": augment_here, "loader": load}
    alternate(parts, 0)
    pairs = [alternate(parts, index) for index in range(num_pairs)]
    for name in parts:
        print(f"224x224, {name}: {statistics.median(pair[name] for pair in pairs):,.0f} images/s", flush=True)
    return bootstrap_median([pair["batch"] / pair["loader"] for pair in pairs])


def measure_trials(data: PreparedData, clock: Callable[[], float], num_pairs: int) -> Interval:
    """Images/s of a trial with augmentation over those of one without."""
    strengths = {"without": 0.0, "with": 1.0}
    parts = {name: partial(measure_training, data, strength, clock) for name, strength in strengths.items()}
    alternate(parts, 0)
    pairs = [alternate(parts, index) for index in range(num_pairs)]
    for name in parts:
        print(f"training {name}: {statistics.median(pair[name] for pair in pairs):,.0f} images/s", flush=True)
    return bootstrap_median([pair["with"] / pair["without"] for pair in pairs])


if __name__ == "__main__":
    main()
