"""Mixes each image of a training batch with the one before it: mixup (Zhang et al. 2018), CutMix (Yun et al. 2019)."""

from dataclasses import dataclass

import numpy as np
import torch

from raysweep.config import AugmentationConfig
from raysweep.data.sampling import find_inside


@dataclass(frozen=True, slots=True)
class Mixing:
    """Says what the images of a batch are mixed with.

    labels: (B,) int64, of what is mixed in; shares: (B,) float32 in [0, 1], of what an image has of its own.
    """

    labels: torch.Tensor
    shares: torch.Tensor


def draw_mixing(num_images: int, size: int, config: AugmentationConfig, generator: torch.Generator) -> torch.Tensor:
    """Draws how each image of size x size pixels is mixed: (B, 6) float32 on the CPU.

    Columns: the share of its label; of its pixels' values, in all of the image; first row and column, height and width
    of the window that is pasted in.

    The configured strength is the probability of either; where both are asked for, an image has each as often.
    """
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    mixed = random.random(num_images) < config.strength
    pasted = mixed & (random.random(num_images) < (0.5 if config.mixup else 1.0) * (config.cutmix > 0))
    share = np.ones(num_images)
    for alpha, chosen in ((config.mixup, mixed & ~pasted), (config.cutmix, pasted)):
        if alpha:
            share[chosen] = random.beta(alpha, alpha, size=chosen.sum())
    side = (size * np.sqrt(1 - share)).astype(int) * pasted
    middle = random.integers(size, size=(2, num_images))
    first = np.clip(middle - side // 2, 0, size)
    extent = np.clip(middle - side // 2 + side, 0, size) - first
    blended = np.where(pasted, 1.0, share)
    whole = np.where(pasted, 1 - extent.prod(axis=0) / size**2, share)
    return torch.from_numpy(np.stack([whole, blended, *first, *extent], axis=1)).float()


def apply_mixing(
    images: torch.Tensor, labels: torch.Tensor, drawn: torch.Tensor, config: AugmentationConfig
) -> tuple[torch.Tensor, Mixing]:
    """Blends each image (B, C, H, H) with another of the batch, or pastes a window of that in; returns also how.

    drawn: of `draw_mixing`, moved to the images' device.
    """
    others = images.roll(1, dims=0)
    if config.mixup:
        images = torch.lerp(others, images, drawn[:, 1, None, None, None])
    if config.cutmix:
        images = torch.where(find_inside(drawn[:, 2:], images.shape[-1]), others, images)
    return images, Mixing(labels.roll(1), drawn[:, 0])
