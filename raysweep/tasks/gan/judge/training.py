"""Trains a judge. The shipped one was made by

    python -m raysweep.tasks.gan.judge.training FOLDER_OF_MNIST raysweep/tasks/gan/judge/mnist.safetensors

on all 60,000 training images by the fixed recipe below; the test images measure it and choose nothing.
"""

import argparse
import logging
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.optim import AdamW

from raysweep.data.idx import find_idx_file, load_idx
from raysweep.errors import DataError
from raysweep.tasks.gan.judge.network import Judge, judge_batches, save_judge
from raysweep.train.optim import Schedule
from raysweep.train.precision import autocast, prepare_process

EPOCHS = 30
"""Of the shipped judge."""
BATCH_SIZE = 256
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.02
WARMUP = 0.2
"""Share of the steps in which the learning rate rises."""
ROTATION_DEGREES = 12.0
SCALE = 0.1
SHIFT = 0.08
"""Share of the side: about 2 of 28 pixels."""
NOISE_STD = 0.3
"""Largest, for pixels in [0, 1]; half of the images get none."""

log = logging.getLogger(__name__)


def train_judge(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    num_classes: int,
    *,
    epochs: int,
    seed: int = 0,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
) -> Judge:
    """Trains a judge of images (N, H, H, C) uint8, C 1 or 3, with labels (N,), on `device`; in evaluation mode.

    Mean cross entropy, AdamW on one cycle of the learning rate (Smith & Topin, 2018), augmented images. The random
    state of the process is left as it was.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        judge = Judge(num_classes=num_classes, channels=images.shape[-1], image_size=images.shape[1])
        judge = judge.to(device).to(memory_format=torch.channels_last)
        num_steps = max(1, len(images) // BATCH_SIZE)
        optimizer = AdamW(judge.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = Schedule(
            "one_cycle", optimizer, num_epochs=epochs, steps_per_epoch=num_steps, warmup_epochs=WARMUP * epochs
        )
        for epoch in range(epochs):
            loss_sum = 0.0
            for rows in torch.randperm(len(images))[: num_steps * BATCH_SIZE].chunk(num_steps):
                loss = _loss(judge, images[rows.numpy()], labels[rows.numpy()], device)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.end_step()
                loss_sum += loss.item()
            log.info("judge: epoch %d of %d, training loss %.4f", epoch + 1, epochs, loss_sum / num_steps)
    return judge.eval()


def _loss(
    judge: Judge, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], device: torch.device
) -> torch.Tensor:
    """Computes the mean cross entropy over a batch of augmented images."""
    judge.train()
    augmented = augment(unit_images(images, device)).contiguous(memory_format=torch.channels_last)
    with autocast("auto", device):
        _, logits = judge(augmented)
    return F.cross_entropy(logits.float(), torch.from_numpy(labels).to(device))


def unit_images(images: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Converts images (B, H, W, C) uint8 to what the judge takes: (B, C, H, W) float32 in [0, 1]."""
    return torch.tensor(images, device=device).permute(0, 3, 1, 2).float().div_(255)


def augment(images: torch.Tensor) -> torch.Tensor:
    """Rotates, scales, shifts and speckles each image (B, C, H, W) in [0, 1] by its own draw; the ground is 0.

    Generators leave speckles, which a judge that has seen clean images only takes for strokes. Those drawn here are
    products of two normal draws: mostly small, some large.

    The whole batch in one call: torchvision's transforms give one draw to a batch, and image by image they cost as
    much as the training step.
    """
    draws = 2 * torch.rand(5, len(images)) - 1
    angle, scale = draws[0] * math.radians(ROTATION_DEGREES), 1 + draws[1] * SCALE
    cos, sin, shift = scale * angle.cos(), scale * angle.sin(), 2 * SHIFT * draws[2:4]
    maps = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], dim=1).view(-1, 2, 3).to(images.device)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    noise_std = NOISE_STD * draws[4].clamp(min=0).view(-1, 1, 1, 1).to(images.device)
    return (moved + noise_std * torch.randn_like(moved) * torch.randn_like(moved)).clamp(0, 1)


def measure_accuracy(judge: Judge, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> float:
    """Measures the share of images (N, H, W, C) uint8 that the judge recognises."""
    device = next(judge.parameters()).device
    batches = (unit_images(images[start : start + 1000], device) for start in range(0, len(images), 1000))
    _, logits = judge_batches(judge, batches)
    return float((logits.argmax(dim=1).numpy() == labels).mean())


def _load(folder: Path, prefix: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Loads images (N, H, W, 1) and labels (N,) of one of the two parts of a folder of idx files."""
    paths = [find_idx_file(folder, f"{prefix}-{part}-ubyte") for part in ("images-idx3", "labels-idx1")]
    if None in paths:
        raise DataError(f"{folder} must have the idx files of {prefix}; give the folder of MNIST")
    images, labels = (load_idx(path) for path in paths if path is not None)
    return images[..., None], labels.astype(np.int64)


def main() -> None:
    """Trains on the training files of a folder, shows the test files once and writes the judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    prepare_process(os.cpu_count() or 1)
    images, labels = _load(options.folder, "train")
    num_classes = int(labels.max()) + 1
    judge = train_judge(images, labels, num_classes, epochs=options.epochs, seed=options.seed)
    accuracy = measure_accuracy(judge, *_load(options.folder, "t10k"))
    recipe = f"{len(images)} training images, {options.epochs} epochs, seed {options.seed}"
    save_judge(options.out, judge, {"source": recipe, "test_accuracy": accuracy})
    print(f"{options.out}: test accuracy {accuracy:.4f}, {options.out.stat().st_size} bytes; {recipe}")


if __name__ == "__main__":
    main()
