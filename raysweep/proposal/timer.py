"""Times a few training steps on this machine, so that a proposal counts with what its cores can do."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.batches import Worker
from raysweep.data.images import DataInfo, PreparedData
from raysweep.errors import UsageError
from raysweep.proposal.choices import AUTOENCODER
from raysweep.task_config import TaskConfig
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.number_format import measure_format
from raysweep.trial_config import TrialConfig

NUM_CLASSES = 10
"""Of the noise that is trained on: how many there are hardly matters for the time."""
BATCH_SIZE = 32


def time_image(name: str, size: int) -> float:
    """Returns the seconds that a core takes to train a network on an image in colour, in the fastest number format.

    A few steps on noise in one thread, with nothing beside them: where as many trials run as there are cores, each is
    somewhat slower. size: side of the image, in pixels.

    Raises:
        UsageError: the memory runs out.
    """
    task: TaskConfig
    if name == AUTOENCODER:
        task = AutoencoderConfig(bottleneck="dense", width=2.0, batch_norm=True)
    else:
        task = ClassificationConfig(model=name, optimizer="adamw")
    config = TrialConfig(
        task=task,
        data=DataConfig(source="noise", image_size=size, channels=3, normalization="unit"),
        training=TrainingConfig(epochs=1, batch_size=BATCH_SIZE),
    )
    info = DataInfo(
        source="noise",
        synthetic=True,
        digest="",
        classes=tuple(map(str, range(NUM_CLASSES))),
        num_train=BATCH_SIZE,
        num_val=0,
        num_test=0,
    )
    with _one_thread():
        found = measure_format(config, PreparedData(folder=Path("noise"), info=info), Worker())
    if not found.images_per_s:
        raise UsageError(
            f"{name} must be trained on {BATCH_SIZE} images of {size} pixels to time it, and the memory ran out; free "
            "some, or give a study in the place of a folder"
        )
    return 1 / max(found.images_per_s.values())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
