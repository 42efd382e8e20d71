"""Extracts what a detector sees of images in one pass: logits, penultimate features, statistics of layers, texture."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from raysweep.data.batches import normalise_images
from raysweep.data.images import ImageSet
from raysweep.evaluate.stored_model import StoredModel
from raysweep.tasks.classification.networks import Classifier
from raysweep.tasks.classification.rejection.texture import compute_moments, measure_texture
from raysweep.tasks.classification.task import ClassificationTask


@dataclass(frozen=True, slots=True)
class Features:
    """Holds what one pass gives for N images, float32 on the CPU."""

    logits: torch.Tensor
    """(N, num_classes)."""
    penultimate: torch.Tensor
    """(N, D): what the last linear layer is given."""
    layers: tuple[torch.Tensor, ...]
    """One (N, 2 * channels) for each stage of the backbone: mean and standard deviation of each channel over
    the image, low-order statistics that show texture (Quintanilha et al. 2019, https://openreview.net/forum?id=rkgpCoRctm).
    """
    texture: torch.Tensor
    """(N, P): what is measured without the network, see `measure_texture`."""

    def __len__(self) -> int:
        return len(self.logits)


def extract_features(model: StoredModel, images: torch.Tensor) -> Features:
    """Extracts features of normalised images (B, C, H, W); the logits are those of the classification itself.

    Several threads may do so at once with one network, where its forward pass leaves nothing in the network itself.
    """
    network = model.modules["model"]
    assert isinstance(model.task, ClassificationTask)
    assert isinstance(network, Classifier)
    with _record(network) as record:
        logits = model.task.infer(network, images)
    layers, penultimate = record.layers, record.penultimate
    own = layers[: len(layers) // len(penultimate)]  # with test_time_flip those of mirror images follow
    return Features(logits.cpu(), penultimate[0], tuple(own), measure_texture(images))


def extract_from_pixels(model: StoredModel, batches: Iterable[npt.NDArray[np.uint8]]) -> Features:
    """Extracts features of decoded images, given in batches (B, H, W, C) uint8; at least one batch."""
    device = next(model.modules["model"].parameters()).device
    return concatenate(
        [extract_features(model, normalise_images(pixels, model.config.data, device)) for pixels in batches]
    )


def extract_from_set(model: StoredModel, images: ImageSet, rows: npt.NDArray[np.int64]) -> Features:
    """Extracts features of some images of a split, in the order of `rows`."""
    return extract_from_pixels(model, gather_batches(images, rows, model.config.training.eval_batch_size))


def gather_batches(images: ImageSet, rows: npt.NDArray[np.int64], batch_size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Gathers decoded images (B, H, W, C) uint8 of some rows, by batches: a split need not fit into memory."""
    for start in range(0, len(rows), batch_size):
        yield images.gather(rows[start : start + batch_size])


def concatenate(parts: Sequence[Features]) -> Features:
    """Joins the features of several batches, in order."""
    return Features(
        torch.cat([part.logits for part in parts]),
        torch.cat([part.penultimate for part in parts]),
        tuple(torch.cat(layers) for layers in zip(*(part.layers for part in parts), strict=True)),
        torch.cat([part.texture for part in parts]),
    )


@dataclass(slots=True)
class _Record:
    """Holds what one call of a network gives its hooks."""

    layers: list[torch.Tensor] = field(default_factory=list)
    penultimate: list[torch.Tensor] = field(default_factory=list)


@dataclass(slots=True)
class _Hooks:
    """Holds the hooks of a network, and the number of calls that record by them."""

    handles: list[RemovableHandle]
    num_calls: int = 0


_hooks: dict[Classifier, _Hooks] = {}
"""Of the networks that are called just now: all threads record by the same hooks."""
_lock = threading.Lock()
"""Held while `_hooks` changes."""


class _OfThread(threading.local):
    """Holds where the hooks put what they are given in a thread; none: it records nothing."""

    record: _Record | None = None


_of_thread = _OfThread()


@contextmanager
def _record(network: Classifier) -> Iterator[_Record]:
    """Records what this thread's call of a network gives its hooks, while it is open."""
    with _lock:
        if network not in _hooks:
            _hooks[network] = _Hooks(_put_hooks(network))
        hooks = _hooks[network]
        hooks.num_calls += 1
    _of_thread.record = record = _Record()
    try:
        yield record
    finally:
        _of_thread.record = None
        with _lock:
            hooks.num_calls -= 1
            if not hooks.num_calls:
                for handle in _hooks.pop(network).handles:
                    handle.remove()


def _put_hooks(network: Classifier) -> list[RemovableHandle]:
    """Puts hooks on the stages of the backbone, for what they return, and on the last linear layer, for its input.

    A stage is a child of the backbone that has parameters and returns feature maps (B, C, H, W) or tokens (B, N, C).
    """
    stages = [child for child in network.backbone.children() if any(True for _ in child.parameters())]
    handles = [stage.register_forward_hook(_keep_layer) for stage in stages]
    return [*handles, network.last_linear.register_forward_pre_hook(_keep_input)]


def _keep_layer(module: nn.Module, inputs: Any, output: Any) -> None:
    record = _of_thread.record
    if record is not None and isinstance(output, torch.Tensor) and output.ndim in (3, 4):
        record.layers.append(_summarise(output))


def _keep_input(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    record = _of_thread.record
    if record is not None:
        record.penultimate.append(inputs[0].detach().float().cpu())


def _summarise(output: torch.Tensor) -> torch.Tensor:
    """Computes means and deviations (B, 2 * C) float32 of the channels of maps (B, C, H, W) or tokens (B, N, C)."""
    places = (2, 3) if output.ndim == 4 else (1,)
    return torch.cat(compute_moments(output.detach().float(), places), dim=1).cpu()
