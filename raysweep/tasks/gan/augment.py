"""Differentiable augmentation of what a discriminator sees, real and generated alike (Zhao et al. 2020)."""

import torch
import torch.nn.functional as F

from raysweep.tasks.gan.config import Policy

TRANSLATION = 0.125
"""Largest shift, as a share of the side."""
CUTOUT = 0.5
"""Side of the window that is blanked, as a share of the image's."""


def diff_augment(images: torch.Tensor, policy: Policy) -> torch.Tensor:
    """Changes images (B, C, H, W) in [-1, 1] at random, each by its own draw, differentiably in the pixels.

    colour: brightness and contrast, for RGB saturation too. What is moved in or cut out is 0, as in the paper.
    """
    if "colour" in policy:
        images = change_colours(images)
    if "translation" in policy:
        images = translate(images)
    if "cutout" in policy:
        images = cut_out(images)
    return images


def change_colours(images: torch.Tensor) -> torch.Tensor:
    """Adds up to 0.5 to either side, and scales the contrast by 0.5 to 1.5 and the saturation of RGB by 0 to 2."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device)
    images = images + (brightness - 0.5)
    if images.shape[1] == 3:
        images = torch.lerp(images.mean(dim=1, keepdim=True), images, 2 * saturation)
    return torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, contrast + 0.5)


def translate(images: torch.Tensor) -> torch.Tensor:
    """Shifts each image by whole pixels, up to an eighth of its side in each direction."""
    num_images, _, height, width = images.shape
    device = images.device
    reach_y, reach_x = round(height * TRANSLATION), round(width * TRANSLATION)
    padded = F.pad(images, (reach_x, reach_x, reach_y, reach_y))
    rows = torch.randint(2 * reach_y + 1, (num_images, 1), device=device) + torch.arange(height, device=device)
    columns = torch.randint(2 * reach_x + 1, (num_images, 1), device=device) + torch.arange(width, device=device)
    each = torch.arange(num_images, device=device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def cut_out(images: torch.Tensor) -> torch.Tensor:
    """Blanks a window of half the side in each image; its centre may be anywhere in the image."""
    num_images, _, height, width = images.shape
    inside = []
    for side in (height, width):
        size = round(side * CUTOUT)
        first = torch.randint(side + 1 - size % 2, (num_images, 1), device=images.device) - size // 2
        offset = torch.arange(side, device=images.device) - first
        inside.append((offset >= 0) & (offset < size))
    blanked = inside[0][:, :, None] & inside[1][:, None, :]
    return images.masked_fill(blanked[:, None], 0.0)
