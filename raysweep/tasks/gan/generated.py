"""Generates images of seeded noise by a stored model, judges them, and trains a classifier on them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raysweep.config import DataConfig
from raysweep.data.batches import Worker, iterate_evaluation, to_pixels
from raysweep.data.images import ImageSet, PreparedData
from raysweep.evaluate.stored_model import StoredModel
from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.judge.network import Judge
from raysweep.tasks.gan.judge.training import measure_accuracy, train_judge
from raysweep.tasks.gan.task import GanTask, unit_range

BATCH_SIZE = 500
NUM_KEPT = 500
"""Images that are kept as pixels, the first so many; of all others the judge's answers."""
NUM_SYNTHETIC = 20_000
SYNTHETIC_EPOCHS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """Holds images of one generator and what the judge says of them."""

    images: npt.NDArray[np.uint8]
    """(K, H, W, C), the first of them."""
    features: torch.Tensor
    """(N, D) float32."""
    logits: torch.Tensor
    """(N, num_classes) float32."""

    @property
    def recognised(self) -> npt.NDArray[np.int64]:
        """Returns the class (N,) that the judge sees in each image."""
        classes: npt.NDArray[np.int64] = self.logits.argmax(dim=1).numpy()
        return classes


def is_conditional(model: StoredModel) -> bool:
    """Says whether the generator can be asked for a class."""
    assert isinstance(model.config.task, GanConfig)
    return model.config.task.conditional


def draw_noise(model: StoredModel, num_images: int, seed: int) -> torch.Tensor:
    """Draws standard normal noise (num_images, latent_size), the same wherever it is drawn."""
    assert isinstance(model.config.task, GanConfig)
    return torch.randn(num_images, model.config.task.latent_size, generator=torch.Generator().manual_seed(seed))


def iterate_generated(model: StoredModel, noise: torch.Tensor, labels: npt.NDArray[np.int64]) -> Iterator[torch.Tensor]:
    """Generates batches (B, C, H, W) float32 in [0, 1], on the model's device, of noise (N, latent_size).

    The labels (N,) are what a conditional generator is asked for; another one does not see them.
    """
    assert isinstance(model.task, GanTask)
    generator = model.modules["generator"]
    device = next(generator.parameters()).device
    asked = torch.from_numpy(labels).to(device) if is_conditional(model) else None
    for start in range(0, len(noise), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        yield model.task.generate(generator, noise[rows].to(device), None if asked is None else asked[rows])


def generate_pixels(model: StoredModel, noise: torch.Tensor, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Generates images (N, H, W, C) uint8 of noise (N, latent_size)."""
    return np.concatenate([to_pixels(batch) for batch in iterate_generated(model, noise, labels)])


def generate_judged(model: StoredModel, judge: Judge, labels: npt.NDArray[np.int64], seed: int) -> Generated:
    """Generates as many images as labels (N,), with 8 bits a channel as real ones have, seen by the judge."""
    noise = draw_noise(model, len(labels), seed)
    kept: list[npt.NDArray[np.uint8]] = []
    features, logits = [], []
    with torch.inference_mode():
        for batch in iterate_generated(model, noise, labels):
            batch_features, batch_logits = judge(batch.mul(255).round().div(255))
            features.append(batch_features.cpu())
            logits.append(batch_logits.cpu())
            if len(features) * BATCH_SIZE < NUM_KEPT + BATCH_SIZE:
                kept.append(to_pixels(batch))
    return Generated(images=np.concatenate(kept)[:NUM_KEPT], features=torch.cat(features), logits=torch.cat(logits))


def iterate_real(
    images: ImageSet, config: DataConfig, device: torch.device, rows: npt.NDArray[np.int64] | None = None
) -> Iterator[torch.Tensor]:
    """Loads batches (B, C, H, W) float32 in [0, 1] of a split, or of some of its rows, at the generator's size."""
    for batch in iterate_evaluation(images, config, batch_size=BATCH_SIZE, worker=Worker(device=device), indices=rows):
        yield unit_range(batch.images)


def interpolate(first: torch.Tensor, last: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Interpolates noise (num_steps, latent_size) from `first` to `last` on a great circle (White, 2016).

    A straight line would leave the shell on which nearly all standard normal noise lies.
    """
    angle = torch.arccos(torch.nn.functional.cosine_similarity(first, last, dim=0).clamp(-0.9999, 0.9999))
    share = torch.linspace(0, 1, num_steps)[:, None]
    return (((1 - share) * angle).sin() * first + (share * angle).sin() * last) / angle.sin()


def train_on_synthetic(
    model: StoredModel, data: PreparedData, test: ImageSet, device: torch.device
) -> dict[str, float]:
    """Measures the accuracy on real test images of a network trained on generated images, and on as many real ones.

    "Train on synthetic, test on real" (Esteban et al., 2017; Ravuri & Vinyals, 2019), with the judge's network and
    recipe. The classes asked for are those of the real training images.
    """
    rows = np.random.default_rng(0).permutation(len(data.train))[:NUM_SYNTHETIC]
    labels, num_classes = data.train.labels[rows], len(data.info.classes)
    synthetic = generate_pixels(model, draw_noise(model, len(rows), seed=1), labels)
    everything = np.arange(len(test))
    accuracies = {}
    for name, images in (("synthetic", synthetic), ("real", data.train.gather(rows))):
        judge = train_judge(images, labels, num_classes, epochs=SYNTHETIC_EPOCHS, device=device)
        accuracies[name] = measure_accuracy(judge, test.gather(everything), test.labels)
    return {"num_images": len(rows), **accuracies}
