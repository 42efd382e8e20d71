"""Batches on the device: shuffled by seed for training, every image exactly once for evaluation. No Ray."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional as transforms

from raysweep.config import DataConfig
from raysweep.data.augment import augment
from raysweep.data.images import ImageSet

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
    for step in range(count_steps(len(images), batch_size, worker.num_workers)):
        whole = order[step * batch_size : (step + 1) * batch_size]
        share = whole[worker.rank :: worker.num_workers]
        pixels = _to_device(images.gather(share), worker.device)
        if config.augmentation.strength > 0:
            generator = torch.Generator().manual_seed(derive_seed(seed, epoch, step, worker.rank, 1))
            pixels = augment(pixels, config.augmentation, config.image_size, generator)
        labels = torch.from_numpy(images.labels[share]).to(worker.device, non_blocking=True)
        yield Batch(_normalise(pixels, config), labels, share, weight=len(share) * worker.num_workers / len(whole))


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
    for start in range(0, len(mine), batch_size):
        share = mine[start : start + batch_size]
        pixels = _to_device(images.gather(share), worker.device)
        labels = torch.from_numpy(images.labels[share]).to(worker.device, non_blocking=True)
        yield Batch(_normalise(pixels, config), labels, share)


def normalise_images(pixels: npt.NDArray[np.uint8], config: DataConfig, device: torch.device) -> torch.Tensor:
    """Normalises decoded images (B, H, W, C) uint8 as evaluation does: (B, C, H, W) float32."""
    return _normalise(_to_device(pixels, device), config)


def to_pixels(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Converts images (B, C, H, W) float in [0, 1] to pixels as decoded ones are, (B, H, W, C) uint8."""
    pixels: npt.NDArray[np.uint8] = images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def _to_device(pixels: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Moves pixels (B, H, W, C) uint8 to the device: (B, C, H, W) float32 in [0, 1], strided channels last."""
    return torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


def _normalise(pixels: torch.Tensor, config: DataConfig) -> torch.Tensor:
    if pixels.shape[-1] != config.image_size:
        pixels = transforms.resize(pixels, [config.image_size, config.image_size], antialias=True)
    if config.normalization == "unit":
        return pixels
    mean, deviation = STATISTICS[config.normalization]
    if len(mean) != pixels.shape[1]:
        mean, deviation = mean * pixels.shape[1], deviation * pixels.shape[1]
    normalised: torch.Tensor = transforms.normalize(pixels, list(mean), list(deviation), inplace=True)
    return normalised
