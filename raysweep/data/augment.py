"""Augments a batch of training images at once, each with its own draw: a fixed number of tensor operations.

What is drawn is computed on the CPU and moved to the images' device in one copy; nothing waits for the device.
"""

import math
from collections.abc import Callable, Sequence

import torch

from raysweep.config import AugmentationConfig
from raysweep.data.sampling import find_inside, move, sample, scale_contrast_, scale_map, spread_maps
from raysweep.data.trivial_augment import draw_operations, operate_

Step = Callable[[torch.Tensor, torch.Tensor], None]
"""Changes images, in place, by what was drawn for each."""
CPU_BLOCK = 2**19
"""Values that each thread of a CPU changes at once: what is made of them stays in its cache."""
ERASED_AREAS = (0.02, 0.33)
"""Smallest and largest share of an image that is erased."""
ERASED_ASPECT = 3.3
"""Largest ratio of an erased window's sides."""


def draw_augmentation(
    num_images: int, side: int, config: AugmentationConfig, size: int, generator: torch.Generator
) -> list[torch.Tensor]:
    """Draws what `apply_augmentation` does to each image of side x side pixels, on the CPU: a tensor for each step."""
    drawn = [draw_changes(num_images, side, config, size, generator)]
    if config.trivial_augment:
        drawn.append(draw_operations(num_images, config.strength * config.trivial_augment, size, generator))
    if config.random_erasing:
        drawn.append(draw_windows(num_images, config.strength * config.random_erasing, size, generator))
    return drawn


def apply_augmentation(
    images: torch.Tensor, drawn: Sequence[torch.Tensor], config: AugmentationConfig, size: int
) -> torch.Tensor:
    """Changes images (B, C, H, H), uint8 or float32 in [0, 1], as `draw_augmentation` says, moved to their device.

    Returns (B, C, size, size) float32 in [0, 1].
    """
    steps: list[Step] = []
    if config.trivial_augment:
        steps.append(operate_)
    if config.random_erasing:
        steps.append(erase_)
    num_images, num_channels, side, _ = images.shape
    changes, *others = drawn
    prepared = prepare_changes(changes, side, size, largest=255 if images.dtype == torch.uint8 else 1)
    result = torch.empty(num_images, num_channels, size, size, device=images.device)
    num_values = num_channels * max(side, size) ** 2
    length = max(1, CPU_BLOCK * torch.get_num_threads() // num_values) if images.is_cpu else num_images
    for begin in range(0, num_images, length):
        block = slice(begin, begin + length)
        change(images[block], [values[block] for values in prepared], config, result[block])
        for step, values in zip(steps, others, strict=True):
            step(result[block], values[block])
    return result


def draw_changes(
    num_images: int, side: int, config: AugmentationConfig, size: int, generator: torch.Generator
) -> torch.Tensor:
    """Draws what `change` does to each image of side x side pixels: (B, 11 or 15) float32 on the CPU.

    Columns: the window that is shown; the affine map that rotates, and mirrors what comes out; the factors of
    brightness and contrast. Of a window to be made smaller first column, first row and side, in pixels. Of others, in
    shares of half the image, x and y where it begins, a pixel's width, and x and y of the first and last to be sampled.
    """
    draws = torch.rand(num_images, 7, generator=generator).double()
    cut, top, left, angle, mirror, brightness, contrast = draws.unbind(1)
    strength = config.strength
    window = (side * (1 - strength * config.random_crop * cut)).round()
    radians = (2 * angle - 1) * (strength * math.radians(config.rotation_degrees))
    cosine, sine, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    direction = 1 - 2 * (mirror < strength * config.horizontal_flip).double()
    first = [(left * (side - window)).round(), (top * (side - window)).round()]
    begin = [2 * place / side - 1 for place in first]
    low, high = ([place + inside / side for place in begin] for inside in (1, 2 * window - 1))
    columns = [
        *([*first, window] if side > size else [*begin, window * (2 / (side * size)), *low, *high]),
        *scale_map([cosine * direction, sine * direction, -sine, cosine, zero, zero], size),
        1 + (2 * brightness - 1) * (strength * config.brightness),
        1 + (2 * contrast - 1) * (strength * config.contrast),
    ]
    return torch.stack(columns, dim=1).float()


def prepare_changes(drawn: torch.Tensor, side: int, size: int, largest: int) -> list[torch.Tensor]:
    """Computes for all images at once what `change` needs of each: windows or lines; a map's two parts; factors.

    That of brightness also scales pixels in [0, largest] to [0, 1].
    """
    windows, maps = drawn[:, :-8, None], drawn[:, -8:-2]
    brightness, contrast = drawn[:, -2:, None, None, None].unbind(1)
    if side <= size:
        begin, width, low, high = torch.split(windows, [2, 1, 2, 2], dim=1)
        places = torch.addcmul(begin, torch.arange(0.5, size, device=drawn.device), width)
        windows = places.maximum(low).minimum(high)
    return [windows, *spread_maps(maps, size), brightness / largest, contrast]


def change(
    images: torch.Tensor, prepared: Sequence[torch.Tensor], config: AugmentationConfig, result: torch.Tensor
) -> None:
    """Crops, rotates, mirrors, brightens and changes the contrast of images as `prepared` says, into `result`."""
    windows, along, down, brightness, contrast = prepared
    side, size = images.shape[-1], result.shape[-1]
    # channel by channel they are sampled twice as fast on CPUs; what moves pixels keeps their scale
    changed = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True).mul_(brightness)
    if side > size:
        changed = _resize_windows(changed, windows, size)
    elif config.random_crop or side < size:
        changed = _sample_lines(changed, windows)
    if config.rotation_degrees:
        changed = move(changed, along, down)
    elif config.horizontal_flip:
        changed = torch.where(along[:, :1, :, :1] > 0, changed.flip(-1), changed)
    torch.clamp(changed, 0, 1, out=result)
    if config.contrast:
        scale_contrast_(result, contrast)


def _sample_lines(images: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """Samples images where the columns and rows at `lines` (B, 2, size), in shares of half the image, cross."""
    columns, rows = lines.unbind(1)
    shape = (len(images), columns.shape[1], columns.shape[1])
    return sample(images, torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=1))


def _resize_windows(images: torch.Tensor, windows: torch.Tensor, size: int) -> torch.Tensor:
    """Scales windows (B, 3, 1) bilinearly with antialiasing, as torchvision's `resized_crop`.

    A pixel of the result weighs those of its column and of its row by their distance, as wide as the scale.
    """
    first, length = windows[:, :2], windows[:, 2:]
    scale = (length / size)[:, :, None]
    pixels = torch.arange(0.5, images.shape[-1], device=images.device) - first
    middles = torch.arange(0.5, size, device=images.device)[:, None] * scale
    weights = (1 - (pixels[:, :, None] - middles).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights = weights * ((pixels > 0) & (pixels < length))[:, :, None]
    columns, rows = (weights / weights.sum(dim=-1, keepdim=True))[:, :, None].unbind(1)
    return rows @ images @ columns.mT


def draw_windows(num_images: int, probability: float, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draws the window of each image to erase, empty where none is (Zhong et al. 2020): (B, 4) float32 on the CPU."""
    draws = torch.rand(num_images, 5, generator=generator).double()
    erased, area, aspect, top, left = draws.unbind(1)
    smallest, largest = ERASED_AREAS
    side = (smallest + (largest - smallest) * area).sqrt() * size
    stretch = ERASED_ASPECT ** (aspect - 0.5)
    height = (side * stretch).round().clamp(1, size)
    width = (side / stretch).round().clamp(1, size) * (erased < probability)
    columns = [(top * (size - height + 1)).floor(), (left * (size - width + 1)).floor(), height, width]
    return torch.stack(columns, dim=1).float()


def erase_(images: torch.Tensor, windows: torch.Tensor) -> None:
    """Blanks each image's window, in place."""
    images.masked_fill_(find_inside(windows, images.shape[-1]), 0.0)
