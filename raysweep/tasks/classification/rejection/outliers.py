"""Images that are none of a study's classes.

Two families that share nothing: `SYNTHETIC`, made from validation images, on which a detector is chosen; and the
sets of the final evaluation, which no choice ever sees.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

Pixels = npt.NDArray[np.uint8]
Make = Callable[[Pixels, Pixels, np.random.Generator], Pixels]
GRID = 4


def permute_patches(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Cuts each image into a grid of 4 x 4 patches and puts them together in another order."""
    side = images.shape[1] // GRID
    made = images.copy()
    for image, source in zip(made, images, strict=True):
        order = draw.permutation(GRID * GRID)
        if (order == np.arange(GRID * GRID)).all():
            order = order[::-1]
        for to, start in enumerate(order):
            image[_patch(to, side)] = source[_patch(int(start), side)]
    return made


def _patch(number: int, side: int) -> tuple[slice, slice]:
    row, column = divmod(number, GRID)
    return slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)


def mix_pairs(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Mixes each image with one of another class: their mean."""
    return ((images.astype(np.uint16) + others) // 2).astype(np.uint8)


def cut_and_paste(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Replaces two opposite quarters of each image by those of one of another class."""
    made = images.copy()
    half = images.shape[1] // 2
    made[:, :half, :half] = others[:, :half, :half]
    made[:, half:, half:] = others[:, half:, half:]
    return made


def invert(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Inverts each image: its negative."""
    return 255 - images


def blur(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Blurs each image by a Gaussian with a standard deviation of an eighth of its side."""
    side = images.shape[1]
    return _to_pixels(transforms.gaussian_blur(_to_tensor(images), [2 * (side // 4) + 1] * 2, [side / 8] * 2))


def rotate(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Turns each image by 45 to 135 degrees to either side."""
    angles = draw.uniform(45, 135, len(images)) * draw.choice([-1, 1], len(images))
    return _to_pixels(
        torch.stack(
            [
                transforms.rotate(image, float(angle), InterpolationMode.BILINEAR)
                for image, angle in zip(_to_tensor(images), angles, strict=True)
            ]
        )
    )


def zoom(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Scales a random window of a third of each image's side up to the whole."""
    side = images.shape[1]
    window = max(1, side // 3)
    corners = draw.integers(0, side - window + 1, (len(images), 2))
    return _to_pixels(
        torch.stack(
            [
                transforms.resized_crop(image, int(top), int(left), window, window, [side, side])
                for image, (top, left) in zip(_to_tensor(images), corners, strict=True)
            ]
        )
    )


def tile(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Shows each image at half its size, four times."""
    side = images.shape[1]
    small = transforms.resize(_to_tensor(images), [(side + 1) // 2] * 2, antialias=True)
    return _to_pixels(small.repeat(1, 1, 2, 2)[:, :, :side, :side])


def outline(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Outlines each image: the difference of the brightest and darkest pixel in a window of a fourteenth."""
    size = 2 * max(1, images.shape[1] // 28) + 1
    tensor = _to_tensor(images).float()
    pool = torch.nn.functional.max_pool2d
    return _to_pixels(pool(tensor, size, 1, size // 2) + pool(-tensor, size, 1, size // 2))


def shuffle_rows(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Puts the rows of pixels of each image in another order."""
    order = draw.random(images.shape[:2]).argsort(axis=1)
    return np.take_along_axis(images, order[:, :, None, None], axis=1)


def randomise_phases(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Makes clouds: each image keeps how much of each frequency it has, not where (Oppenheim & Lim 1981)."""
    spectrum = np.fft.rfft2(images, axes=(1, 2))
    phases = np.exp(1j * np.angle(np.fft.rfft2(draw.normal(size=(*images.shape[:3], 1)), axes=(1, 2))))
    phases[:, 0, 0] = 1  # the mean stays
    made = np.fft.irfft2(spectrum * phases, s=images.shape[1:3], axes=(1, 2))
    return made.round().clip(0, 255).astype(np.uint8)


def add_grain(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Adds to every pixel value what is drawn from a Laplace distribution with a scale of 40."""
    return (images + draw.laplace(0, 40, images.shape)).round().clip(0, 255).astype(np.uint8)


def fade(images: Pixels, others: Pixels, draw: np.random.Generator) -> Pixels:
    """Leaves a tenth of the contrast of each image around its mean colour."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    faded: Pixels = (mean + (images - mean) / 10).round().astype(np.uint8)
    return faded


SYNTHETIC: dict[str, Make] = {
    "patches permuted": permute_patches,
    "pairs mixed": mix_pairs,
    "cut and pasted": cut_and_paste,
    "inverted": invert,
    "blurred": blur,
    "rotated": rotate,
    "zoomed": zoom,
    "tiled": tile,
    "outlines": outline,
    "rows shuffled": shuffle_rows,
    "phases random": randomise_phases,
    "grain": add_grain,
    "faded": fade,
}
"""Outliers made from images (N, H, W, C) uint8, square, and as many of other classes."""


def draw_uniform(images: Pixels, draw: np.random.Generator) -> Pixels:
    """Draws every pixel value uniformly from 0..255."""
    return draw.integers(0, 256, images.shape, dtype=np.uint8)


def draw_gaussian(images: Pixels, draw: np.random.Generator) -> Pixels:
    """Draws every pixel value normally with mean 127.5 and standard deviation 64, cut off at 0 and 255."""
    return draw.normal(127.5, 64, images.shape).clip(0, 255).round().astype(np.uint8)


def shuffle_pixels(images: Pixels, draw: np.random.Generator) -> Pixels:
    """Shuffles the pixels of each image in an order of its own; a pixel keeps its channels."""
    num_images, height, width, channels = images.shape
    order = draw.random((num_images, height * width)).argsort(axis=1)
    flat = images.reshape(num_images, height * width, channels)
    return np.take_along_axis(flat, order[:, :, None], axis=1).reshape(images.shape)


NOISE: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "uniform noise": draw_uniform,
    "Gaussian noise": draw_gaussian,
    "shuffled pixels": shuffle_pixels,
}
"""Outliers of the final evaluation in the shape of test images (N, H, W, C) uint8."""


def draw_blank(levels: npt.NDArray[np.uint8], shape: tuple[int, int, int]) -> Pixels:
    """Draws images (N, H, W, C) of one grey level each, given (N,): 0 is black, 255 is white."""
    return np.broadcast_to(levels[:, None, None, None], (len(levels), *shape)).copy()


def resize_grey(images: npt.NDArray[np.uint8], size: int, channels: int) -> Pixels:
    """Stretches grey images (N, H, W) to (N, size, size, channels), with equal channels."""
    tensor = torch.from_numpy(images.copy())[:, None]
    if images.shape[1:] != (size, size):
        tensor = transforms.resize(tensor, [size, size], antialias=True)
    return _to_pixels(tensor.expand(-1, channels, -1, -1))


def _to_tensor(images: Pixels) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _to_pixels(images: torch.Tensor) -> Pixels:
    return np.ascontiguousarray(images.to(torch.uint8).permute(0, 2, 3, 1).numpy())
