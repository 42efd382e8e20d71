"""Keeps the judge of a data set beside its decoded images, so that all trials are judged by the same one."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from raysweep.data.images import ImageSet, PreparedData
from raysweep.errors import CorruptFileError
from raysweep.file_lock import wait_for_lock
from raysweep.tasks.gan.judge.network import load_judge, save_judge
from raysweep.tasks.gan.judge.training import measure_accuracy, train_judge

FILE = "judge.safetensors"
SHIPPED = Path(__file__).with_name("mnist.safetensors")
MIN_ACCURACY = 0.98
"""On the validation images, for the shipped judge to be the one of a data set."""
IMAGES_SEEN = 300_000
MAX_EPOCHS = 60
MAX_BYTES = 2**30
"""Of decoded images in memory; a seeded choice where a split has more."""


def ensure_judge(data: PreparedData) -> Path:
    """Returns the file of the judge beside the decoded images, which the first call makes.

    The shipped judge of MNIST where it recognises at least 98 % of the validation images; else one that is trained
    on the training images, a minute or two on two cores. Processes that call at once wait for the first one.
    """
    path = data.folder / FILE
    if not _is_whole(path):
        with wait_for_lock(data.folder / f".{FILE}.lock", "another process that trains the same judge"):
            if not _is_whole(path):  # another process may have made it meanwhile
                _make_judge(data, path)
    return path


def _is_whole(path: Path) -> bool:
    """Tells whether the judge is there and can be loaded; one that is damaged is made again, which is said."""
    if not path.is_file():
        return False
    try:
        load_judge(path)
    except CorruptFileError as error:
        print(f"{error}: so it is now", file=sys.stderr)
        return False
    return True


def _make_judge(data: PreparedData, path: Path) -> None:
    images, labels = _load_split(data.val)
    num_classes = len(data.info.classes)
    judge, facts = load_judge(SHIPPED)
    if judge.settings == {"num_classes": num_classes, "channels": images.shape[3], "image_size": images.shape[1]}:
        accuracy = measure_accuracy(judge, images, labels)
        if accuracy >= MIN_ACCURACY:
            source = (
                f"shipped with raysweep: MNIST, {facts['source']}, the validation images among them, "
                f"test accuracy {facts['test_accuracy']:.4f}"
            )
            save_judge(path, judge, {"source": source, "accuracy": accuracy})
            return
    train_images, train_labels = _load_split(data.train)
    epochs = max(1, min(MAX_EPOCHS, round(IMAGES_SEEN / len(train_labels))))
    source = f"trained on {data.info.source}: {len(train_labels)} training images, {epochs} epochs, seed 0"
    print(f"a judge of generated images is being {source}; it is kept", file=sys.stderr)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    judge = train_judge(train_images, train_labels, num_classes, epochs=epochs, device=device)
    save_judge(path, judge, {"source": source, "accuracy": measure_accuracy(judge, images, labels)})


def _load_split(images: ImageSet) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Loads images (N, H, W, C) and labels (N,) of a split, or of as much of it as may be held in memory."""
    first = images.gather(np.arange(1))
    rows = np.random.default_rng(0).permutation(len(images))[: max(1, MAX_BYTES // first.nbytes)]
    return images.gather(rows), images.labels[rows]
