"""Encodes and reconstructs images by a stored autoencoder, and measures the errors."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raysweep.data.batches import Batch, Worker, iterate_evaluation, to_pixels
from raysweep.data.images import ImageSet
from raysweep.evaluate.stored_model import StoredModel
from raysweep.tasks.autoencoder.task import AutoencoderTask
from raysweep.train.metrics import Sums, add_up
from raysweep.train.state import TrainState


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstruction:
    """Holds what an autoencoder makes of a split; a variational one by its posterior means."""

    metrics: dict[str, float]
    """As during the search: `mse`, `bce`, `excess_bce` and a VAE's `kl`, `negative_elbo`, `active_units`."""
    codes: npt.NDArray[np.float32]
    """(N, K)."""
    errors: npt.NDArray[np.float64]
    """Squared error per pixel of each image, (N,)."""


def get_task(model: StoredModel) -> AutoencoderTask:
    """Returns the model's task, which knows how to encode and decode."""
    assert isinstance(model.task, AutoencoderTask)
    return model.task


def reconstruct(model: StoredModel, images: ImageSet) -> Reconstruction:
    """Computes codes and errors of all images of a split, in order."""
    task, network = get_task(model), model.modules["model"]
    state = TrainState(modules=model.modules, prepared=model.modules, optimizers={})
    sums: Sums = {}
    codes, errors = [], []
    for batch in _iterate(model, images):
        sums = add_up([sums, task.count(state, batch)])
        code = task.encode(network, batch.images)
        difference = task.decode(network, code) - batch.images
        codes.append(code.cpu().numpy())
        errors.append(difference.double().square().flatten(1).mean(dim=1).cpu().numpy())
    metrics = {name: float(value) for name, value in task.compute_metrics(sums).items()}
    return Reconstruction(metrics=metrics, codes=np.concatenate(codes), errors=np.concatenate(errors))


def encode_images(model: StoredModel, images: ImageSet, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Encodes some images of a split to codes (len(indices), K)."""
    task, network = get_task(model), model.modules["model"]
    return np.concatenate([task.encode(network, b.images).cpu().numpy() for b in _iterate(model, images, indices)])


def decode_pixels(model: StoredModel, codes: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Decodes images (N, H, W, C) uint8 of codes (N, K)."""
    given = torch.from_numpy(np.asarray(codes, dtype=np.float32)).to(_device(model))
    size = model.config.training.eval_batch_size
    return np.concatenate(
        [to_pixels(get_task(model).decode(model.modules["model"], part)) for part in torch.split(given, size)]
    )


def _iterate(model: StoredModel, images: ImageSet, indices: npt.NDArray[np.int64] | None = None) -> Iterator[Batch]:
    return iterate_evaluation(
        images,
        model.config.data,
        batch_size=model.config.training.eval_batch_size,
        worker=Worker(device=_device(model)),
        indices=indices,
    )


def _device(model: StoredModel) -> torch.device:
    return next(model.modules["model"].parameters()).device
