"""The study of trial_overhead.py: a small idx data set, and trials of about half a second, all equally long."""

import struct
from pathlib import Path

import numpy as np
from optuna.distributions import FloatDistribution

from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

NUM_TRAIN, NUM_TEST, SIDE, EPOCHS = 640, 128, 28, 2


def write_idx(folder: Path, num_train: int = NUM_TRAIN) -> None:
    """Random images with a bright square at a place for each of four classes, as plain idx files."""
    random = np.random.default_rng(0)
    for prefix, count in (("train", num_train), ("t10k", NUM_TEST)):
        labels = (np.arange(count) % 4).astype(np.uint8)
        images = random.integers(0, 100, (count, SIDE, SIDE), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 + 5 * label : 9 + 5 * label, 8:20] += 120
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{prefix}-{name}-ubyte").write_bytes(header + array.tobytes())


def build_study(folder: Path, trials: int) -> Study:
    """Two epochs of the Fashion CNN (0.8 million weights) on the small set, all trials of equal length."""
    return Study(
        name="overhead",
        task=ClassificationConfig(model="fashion_cnn", dropout=0.5),
        data=DataConfig(source=str(folder), image_size=SIDE, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=EPOCHS, batch_size=64, precision="fp32"),
        space={"task.learning_rate": FloatDistribution(2e-4, 2e-3, log=True)},
        objective=Objective(metric="val/accuracy"),
        budget=Budget(trials=trials),
    )
