"""Augments training images, each with its own draw, with torchvision's functions."""

import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from raysweep.config import AugmentationConfig


def augment(images: torch.Tensor, config: AugmentationConfig, size: int, generator: torch.Generator) -> torch.Tensor:
    """Crops, rotates, mirrors, brightens and changes the contrast of images (B, C, H, W) in [0, 1] at random.

    Every image of the batch gets its own parameters, drawn on the CPU from `generator`; the pixels are
    changed on their device. Returns (B, C, size, size) in [0, 1].
    """
    draws = torch.rand(len(images), 7, generator=generator).tolist()
    return torch.stack([_augment_one(image, config, size, draw) for image, draw in zip(images, draws, strict=True)])


def _augment_one(image: torch.Tensor, config: AugmentationConfig, size: int, draw: list[float]) -> torch.Tensor:
    cut, top, left, angle, mirror, brightness, contrast = draw
    strength = config.strength
    height, width = image.shape[-2:]
    window_height = round(height * (1 - strength * config.random_crop * cut))
    window_width = round(width * (1 - strength * config.random_crop * cut))
    window = [
        round(top * (height - window_height)),
        round(left * (width - window_width)),
        window_height,
        window_width,
    ]
    if window != [0, 0, height, width] or (height, width) != (size, size):
        image = transforms.resized_crop(image, *window, size=[size, size], antialias=True)
    if config.rotation_degrees:
        degrees = (2 * angle - 1) * strength * config.rotation_degrees
        image = transforms.rotate(image, degrees, InterpolationMode.BILINEAR)
    if mirror < strength * config.horizontal_flip:
        image = transforms.horizontal_flip(image)
    if config.brightness:
        image = transforms.adjust_brightness(image, 1 + (2 * brightness - 1) * strength * config.brightness)
    if config.contrast:
        image = transforms.adjust_contrast(image, 1 + (2 * contrast - 1) * strength * config.contrast)
    return image
