"""Batches on the device: shuffled by seed for training, every image exactly once for evaluation. No Ray."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from raysweep.config import DataConfig
from raysweep.data.augment import apply_augmentation, draw_augmentation
from raysweep.data.mixing import Mixing, apply_mixing, draw_mixing
from raysweep.data.placement import DeviceImages, Images, fetch
from raysweep.data.sampling import move_to

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "symmetric": ((0.5,), (0.5,)),
}


CPU = torch.device("cpu")
AUGMENTATION = "augmentation"
"""Begins the names of what `draw_augmentation` drew, in order."""


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
class Ingredients:
    """What a batch is built from on the device: `places` of images there, or `pixels` and `labels`, and what was drawn.

    Their names and shapes are the same for all whole batches of a trial.
    """

    tensors: dict[str, torch.Tensor]
    indices: npt.NDArray[np.int64]
    """See Batch; so is `weight`."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """This worker's rank, the number of workers, its device, and how many trials share that."""

    rank: int = 0
    num_workers: int = 1
    device: torch.device = CPU
    num_sharing: int = 1


def derive_seed(seed: int, *parts: int) -> int:
    """Derives a 63-bit seed from a seed and counters such as epoch, step and rank."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def count_steps(num_images: int, batch_size: int, num_workers: int) -> int:
    """Counts the training steps of an epoch. A last batch with fewer than 2 images for each worker is left out."""
    full, rest = divmod(num_images, batch_size)
    return full + (rest >= 2 * num_workers or (full == 0 and rest > 0))


def iterate_ingredients(
    images: Images, config: DataConfig, *, batch_size: int, seed: int, epoch: int, worker: Worker
) -> Iterator[Ingredients]:
    """Yields what the batches of an epoch are built from: all that is decided, drawn or read on the CPU.

    The images are permuted by (seed, epoch); each step's batch is dealt out to the workers.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(images))
    starts = range(0, count_steps(len(images), batch_size, worker.num_workers) * batch_size, batch_size)
    batches = [order[start : start + batch_size] for start in starts]
    shares = [batch[worker.rank :: worker.num_workers] for batch in batches]
    for step, (share, tensors) in enumerate(zip(shares, fetch(images, shares, worker.device), strict=True)):
        if config.augmentation.strength > 0:
            generator = torch.Generator().manual_seed(derive_seed(seed, epoch, step, worker.rank, 1))
            drawn = _draw(len(share), images.shape[1], config, generator)
            tensors |= {name: move_to(values, worker.device) for name, values in drawn.items()}
        yield Ingredients(tensors, share, len(share) * worker.num_workers / len(batches[step]))


def _draw(num_images: int, side: int, config: DataConfig, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Draws on the CPU how each decoded image of a batch is changed, by the names that `build_batch` knows."""
    size, augmentation = config.image_size, config.augmentation
    steps = draw_augmentation(num_images, side, augmentation, size, generator)
    drawn = {f"{AUGMENTATION}{number}": values for number, values in enumerate(steps)}
    if augmentation.mixes:
        drawn["mixing"] = draw_mixing(num_images, size, augmentation, generator)
    return drawn


def build_batch(ingredients: Ingredients, images: Images, config: DataConfig) -> Batch:
    """Gathers, augments and normalises a batch, all on the device: a number of operations that never changes."""
    tensors = ingredients.tensors
    if isinstance(images, DeviceImages):
        pixels, labels = images.pixels[tensors["places"]], images.labels[tensors["places"]]
    else:
        pixels, labels = tensors["pixels"], tensors["labels"]
    drawn = [values for name, values in tensors.items() if name.startswith(AUGMENTATION)]
    if drawn:
        floats = apply_augmentation(pixels.permute(0, 3, 1, 2), drawn, config.augmentation, config.image_size)
    else:
        floats = _to_floats(pixels)
    mixing = None
    if "mixing" in tensors:
        floats, mixing = apply_mixing(floats, labels, tensors["mixing"], config.augmentation)
    return Batch(_normalise(floats, config), labels, ingredients.indices, ingredients.weight, mixing)


def iterate_evaluation(
    images: Images,
    config: DataConfig,
    *,
    batch_size: int,
    worker: Worker,
    indices: npt.NDArray[np.int64] | None = None,
) -> Iterator[Batch]:
    """Yields every image exactly once over all workers, in order, the last partial batch included."""
    mine = (np.arange(len(images)) if indices is None else indices)[worker.rank :: worker.num_workers]
    shares = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    for share, tensors in zip(shares, fetch(images, shares, worker.device), strict=True):
        yield build_batch(Ingredients(tensors, share), images, config)


def normalise_images(pixels: npt.NDArray[np.uint8], config: DataConfig, device: torch.device) -> torch.Tensor:
    """Normalises decoded images (B, H, W, C) uint8 as evaluation does: (B, C, H, W) float32."""
    return _normalise(_to_floats(torch.from_numpy(pixels).to(device)), config)


def to_pixels(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Converts images (B, C, H, W) float in [0, 1] to pixels as decoded ones are, (B, H, W, C) uint8."""
    pixels: npt.NDArray[np.uint8] = images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def _to_floats(pixels: torch.Tensor) -> torch.Tensor:
    """Converts pixels (B, H, W, C) uint8 to (B, C, H, W) float32 in [0, 1], strided channels last."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


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
