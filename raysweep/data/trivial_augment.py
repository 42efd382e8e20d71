"""Does one of TrivialAugment's operations, in its wide range, to each image of a batch (Müller & Hutter 2021)."""

import math

import torch
import torch.nn.functional as F

from raysweep.data.sampling import move, scale_brightness_, scale_contrast_, scale_map, spread_maps, to_grey

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
LEVELS = 31
LARGEST = 0.99
"""Largest shear, and change of a factor from 1."""
SHIFT = 32 / 224
"""Largest shift, as a share of the side: the paper's 32 pixels."""
ROTATION_DEGREES = 135.0
BITS = (8.0, 2.0)
"""Bits of a pixel after the weakest and the strongest posterizing."""


def draw_operations(num_images: int, probability: float, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draws, with a probability, an operation and its magnitude for each image, as `describe` returns it."""
    applied, operation, level, sign = torch.rand(num_images, 4, generator=generator).double().unbind(1)
    operation = (operation * len(OPERATIONS)).floor() * (applied < probability)  # the first is identity
    level = (level * LEVELS).floor() / (LEVELS - 1)
    return describe(operation, level, torch.where(sign < 0.5, 1.0, -1.0), size)


def describe(operation: torch.Tensor, level: torch.Tensor, sign: torch.Tensor, size: int) -> torch.Tensor:
    """Describes each image's operation, a position in OPERATIONS, at a level in [0, 1]: (B, 14) float32 on the CPU.

    Columns: the affine map that moves its pixels; factors of brightness, saturation, contrast and sharpness; levels of
    posterizing, 0: none; the smallest value that solarizing inverts; whether the contrast is stretched, and the
    histogram equalized.
    """

    def chosen(name: str) -> torch.Tensor:
        return (operation == OPERATIONS.index(name)).double()

    signed = level * sign
    shift = (SHIFT * size * level).floor() * sign
    radians = math.radians(ROTATION_DEGREES) * signed * chosen("rotate")
    shear_x, shear_y = (LARGEST * signed * chosen(f"shear_{axis}") for axis in "xy")
    moved = (shear_x * (size / 2) - shift * chosen("translate_x"), shear_y * (size / 2) - shift * chosen("translate_y"))
    columns = [
        *scale_map([radians.cos(), shear_y + radians.sin(), shear_x - radians.sin(), radians.cos(), *moved], size),
        *(1 + LARGEST * signed * chosen(name) for name in ("brightness", "colour", "contrast", "sharpness")),
        2 ** (BITS[0] + (BITS[1] - BITS[0]) * level).round() * chosen("posterize"),
        torch.where(chosen("solarize") > 0, 1 - level, math.inf),
        chosen("autocontrast"),
        chosen("equalize"),
    ]
    return torch.stack(columns, dim=1).float()


def operate_(images: torch.Tensor, described: torch.Tensor) -> None:
    """Does to images (B, C, H, W) in [0, 1], in place, what `described` on their device says."""
    from torchvision.transforms.v2 import functional as transforms  # slow

    brightness, saturation, contrast, sharpness, levels, threshold, stretched, equalized = described[
        :, 6:, None, None, None
    ].unbind(1)
    changed = scale_brightness_(move(images, *spread_maps(described[:, :6], images.shape[-1])), brightness)
    changed = torch.lerp(to_grey(changed), changed, saturation).clamp_(0, 1)
    changed = scale_contrast_(changed, contrast)
    _sharpen_(changed, sharpness)
    coarse = (changed * levels).floor().minimum(levels - 1) / levels.clamp(min=1)
    changed = torch.where(levels > 0, coarse, changed)
    changed = torch.where(changed >= threshold, 1 - changed, changed)
    changed = torch.where(stretched > 0, transforms.autocontrast(changed), changed)
    torch.where(equalized > 0, transforms.equalize(changed), changed, out=images)


def _sharpen_(images: torch.Tensor, factors: torch.Tensor) -> None:
    """Scales, in place, each image's distance from its smoothed self by its factor, but at its edge; clips to [0, 1].

    Smooth is what a 3x3 kernel of ones with a 5 in its middle gives.
    """
    inner = images[:, :, 1:-1, 1:-1]
    smooth = F.avg_pool2d(images, 3, stride=1) * (9 / 13) + inner * (4 / 13)
    inner.copy_(torch.lerp(smooth, inner, factors).clamp_(0, 1))
