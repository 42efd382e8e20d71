"""Keeps decoded images on the training device where they fit, else brings a batch there while the one before trains."""

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from raysweep.data.images import ImageSet, Rows
from raysweep.data.sampling import move_to

SHARE = 0.25
"""The part of a device's free memory that decoded images may take, of all trials that share the device."""
BLOCK_BYTES = 2**26
"""Of decoded images that are moved at once."""


class DeviceImages:
    """Holds the decoded images of one split on a device: pixels (N, H, W, C) uint8 and labels (N,) int64."""

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        self.shape = images.shape
        self.pixels = torch.empty(self.shape, dtype=torch.uint8, device=device)
        self.labels = torch.from_numpy(images.labels).to(device)
        length = max(1, BLOCK_BYTES // math.prod(self.shape[1:]))
        blocks = [np.arange(start, min(start + length, len(images))) for start in range(0, len(images), length)]
        for places, pixels in zip(blocks, images.iterate(blocks), strict=True):
            self.pixels[places[0] : places[-1] + 1] = torch.from_numpy(pixels).to(device)

    def __len__(self) -> int:
        return len(self.labels)


Images = ImageSet | DeviceImages


def fits(size_bytes: int, free_bytes: int, num_sharing: int) -> bool:
    """Tells whether decoded images may lie on a device with so much free memory that so many trials share."""
    return size_bytes <= SHARE * free_bytes / num_sharing


def place(splits: tuple[ImageSet, ...], device: torch.device, num_sharing: int) -> tuple[Images, ...]:
    """Moves the splits to a GPU where all of them fit; else, and for a CPU, they stay where they are."""
    if device.type != "cuda":
        return splits
    free_bytes, _ = torch.cuda.mem_get_info(device)
    if not fits(sum(math.prod(images.shape) for images in splits), free_bytes, num_sharing):
        return splits
    return tuple(DeviceImages(images, device) for images in splits)


def fetch(images: Images, shares: Sequence[Rows], device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
    """Yields for each share of places `pixels` and `labels` on the device, or `places` where the images lie there."""
    if isinstance(images, DeviceImages):
        places = move_to(torch.from_numpy(np.concatenate([np.empty(0, np.int64), *shares])), device)
        yield from ({"places": some} for some in torch.split(places, [len(share) for share in shares]))
    else:
        for share, pixels in zip(shares, images.iterate(shares), strict=True):
            yield _bring(torch.from_numpy(pixels), torch.from_numpy(images.labels[share]), device)


def _bring(pixels: torch.Tensor, labels: torch.Tensor, device: torch.device) -> dict[str, torch.Tensor]:
    """Brings a batch to the device; a GPU is not waited for, and trains meanwhile.

    Memory that is pinned is used again when its copy is done, which torch's allocator sees to.
    """
    if device.type != "cuda":
        return {"pixels": pixels.to(device), "labels": labels.to(device)}
    stream = _copy_stream(device)
    with torch.cuda.stream(stream):
        moved = {"pixels": move_to(pixels, device), "labels": move_to(labels, device)}
    training = torch.cuda.current_stream(device)
    training.wait_stream(stream)
    for tensor in moved.values():
        tensor.record_stream(training)
    return moved


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns the stream beside that of the training on which batches are copied to a device."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
