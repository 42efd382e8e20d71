"""Samples a batch of images at places that differ from image to image; computes what augmentations share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

GREY = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in a grey value (ITU-R 601-2)."""


def move_to(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Moves what was made on the CPU to a device; a GPU is not waited for."""
    if device.type == "cuda":
        values = values.pin_memory()  # a copy from other memory is waited for
    return values.to(device, non_blocking=True)


def sample(images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Samples images bilinearly at `places` (B, 2, H, W), x and y in [-1, 1] from edge to edge; zeros lie outside.

    On CPUs places as two planes are made ten times, and read twice, as fast as pairs of x and y.
    """
    return F.grid_sample(images, places.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)


def spread_maps(maps: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spreads affine maps (B, 6) to the parts of their columns (B, 2, 1, size) and rows (B, 2, size, 1).

    The pixel in column x and row y, counted from the middle, comes from x * maps[:2] + y * maps[2:4] + maps[4:], in
    shares of half the image.
    """
    line = torch.arange(0.5 - size / 2, size / 2, device=maps.device)
    per_column, per_row, shift = maps.reshape(-1, 3, 2, 1, 1).unbind(1)
    return torch.addcmul(shift, line, per_column), line[:, None] * per_row


def move(images: torch.Tensor, along: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Moves the pixels of images (B, C, H, H) bilinearly by affine maps, spread; zeros move in."""
    return sample(images, along + down)


def scale_map(columns: Sequence[torch.Tensor], size: int) -> list[torch.Tensor]:
    """Scales the columns of affine maps in pixels to what `move` takes."""
    return [column * (2 / size) for column in columns]


def find_inside(windows: torch.Tensor, size: int) -> torch.Tensor:
    """Finds the pixels (B, 1, size, size) inside each image's window (B, 4): first row, first column, height, width."""
    top, left, height, width = windows[:, :, None].unbind(1)
    line = torch.arange(size, device=windows.device)
    rows, columns = (line >= top) & (line < top + height), (line >= left) & (line < left + width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def to_grey(images: torch.Tensor) -> torch.Tensor:
    """Weighs the channels, 1 or 3, of images (B, C, H, W) to grey values (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (red * GREY[0] + green * GREY[1] + blue * GREY[2])[:, None]


def scale_brightness_(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Scales each image by its factor (B, 1, 1, 1), in place; clips to [0, 1]."""
    return images.mul_(factors).clamp_(0, 1)


def scale_contrast_(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Scales each image's distance from its mean grey value by its factor (B, 1, 1, 1), in place; clips to [0, 1]."""
    mean = to_grey(images.mean(dim=(2, 3), keepdim=True))
    return images.mul_(factors).add_(mean.mul_(1 - factors)).clamp_(0, 1)
