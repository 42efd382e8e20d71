"""Batches on the device: shuffled by seed for training, every image exactly once for evaluation. No Ray."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from raysweep.config import DataConfig
from raysweep.data.augment import augment
from raysweep.data.images import ImageSet
from raysweep.data.mixing import Mixing, mix

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "symmetric": ((0.5,), (0.5,)),
}


CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (B, C, H, W) float32, normalised; labels (B,) int64; where they stand; the weight of this worker's share.

    `indices` (B,) int64 are the images' positions in their split: what is drawn by them is the same under any
    batch size and number of workers.

    The mean loss over the batch times `weight`, averaged over all workers, is the mean loss over the
    global batch, also where the workers' shares differ by an image.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: npt.NDArray[np.int64]
    weight: float = 1.0
    mixing: Mixing | None = None
    """What the images are mixed with; none: each is of its own class."""


@dataclass(frozen=True, slots=True)
class Worker:
    """This worker's rank, the number of workers, and its device."""

    rank: int = 0
    num_workers: int = 1
    device: torch.device = CPU


def derive_seed(seed: int, *parts: int) -> int:
    """Derives a 63-bit seed from a seed and counters such as epoch, step and rank."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def count_steps(num_images: int, batch_size: int, num_workers: int) -> int:
    """Counts the training steps of an epoch. A last batch with fewer than 2 images for each worker is left out."""
    full, rest = divmod(num_images, batch_size)
    return full + (rest >= 2 * num_workers or (full == 0 and rest > 0))


def iterate_training(
    images: ImageSet, config: DataConfig, *, batch_size: int, seed: int, epoch: int, worker: Worker
) -> Iterator[Batch]:
    """Yields an epoch's batches, permuted by (seed, epoch); each step's batch is dealt out to the workers."""
    order = np.random.default_rng([seed, epoch]).permutation(len(images))
    starts = range(0, count_steps(len(images), batch_size, worker.num_workers) * batch_size, batch_size)
    shares = [order[start : start + batch_size][worker.rank :: worker.num_workers] for start in starts]
    for step, (share, decoded) in enumerate(zip(shares, images.iterate(shares), strict=True)):
        changed = config.augmentation.strength > 0
        pixels = _to_device(decoded, worker.device, by_channel=changed)
        labels = torch.from_numpy(images.labels[share]).to(worker.device, non_blocking=True)
        mixing = None
        if changed:
            generator = torch.Generator().manual_seed(derive_seed(seed, epoch, step, worker.rank, 1))
            pixels = augment(pixels, config.augmentation, config.image_size, generator)
            if config.augmentation.mixes:
                pixels, mixing = mix(pixels, labels, config.augmentation, generator)
        weight = len(share) * worker.num_workers / len(order[starts[step] : starts[step] + batch_size])
        yield Batch(_normalise(pixels, config), labels, share, weight, mixing)


def iterate_evaluation(
    images: ImageSet,
    config: DataConfig,
    *,
    batch_size: int,
    worker: Worker,
    indices: npt.NDArray[np.int64] | None = None,
) -> Iterator[Batch]:
    """Yields every image exactly once over all workers, in order, the last partial batch included."""
    mine = (np.arange(len(images)) if indices is None else indices)[worker.rank :: worker.num_workers]
    shares = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    for share, decoded in zip(shares, images.iterate(shares), strict=True):
        pixels = _to_device(decoded, worker.device)
        labels = torch.from_numpy(images.labels[share]).to(worker.device, non_blocking=True)
        yield Batch(_normalise(pixels, config), labels, share)


def normalise_images(pixels: npt.NDArray[np.uint8], config: DataConfig, device: torch.device) -> torch.Tensor:
    """Normalises decoded images (B, H, W, C) uint8 as evaluation does: (B, C, H, W) float32."""
    return _normalise(_to_device(pixels, device), config)


def to_pixels(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Converts images (B, C, H, W) float in [0, 1] to pixels as decoded ones are, (B, H, W, C) uint8."""
    pixels: npt.NDArray[np.uint8] = images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def _to_device(pixels: npt.NDArray[np.uint8], device: torch.device, *, by_channel: bool = False) -> torch.Tensor:
    """Moves pixels (B, H, W, C) uint8 to the device: (B, C, H, W) float32 in [0, 1], strided channels last or not."""
    images = torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2)
    if by_channel:
        images = images.contiguous()  # as bytes: a quarter of what floats would have to be moved
    return images.float().div_(255)


def _normalise(pixels: torch.Tensor, config: DataConfig) -> torch.Tensor:
    if pixels.shape[-1] != config.image_size:
        pixels = F.interpolate(pixels, [config.image_size, config.image_size], mode="bilinear", antialias=True)
    if config.normalization == "unit":
        return pixels
    mean, deviation = _statistics(config.normalization, pixels.device)
    return pixels.sub_(mean).div_(deviation)


@functools.cache
def _statistics(normalization: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Builds mean and deviation, (1 or C, 1, 1) each, on a device once: each copy there would have to be waited for."""
    mean, deviation = (torch.tensor(values, device=device).view(-1, 1, 1) for values in STATISTICS[normalization])
    return mean, deviation
