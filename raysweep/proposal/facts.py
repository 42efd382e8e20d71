"""What a proposal is made from: the facts of a set of images and of the machine that is to train on them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysweep.cores import count_cores
from raysweep.data.description import UNEVEN
from raysweep.data.records import SPLITS
from raysweep.data.sources import load_source
from raysweep.data.survey import sample_train
from raysweep.errors import DataError

NUM_LOOKED_AT = 300
"""Training images that are looked at: enough for a median, few enough for a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """Describes a set of images."""

    source: str
    """As `--data` takes it, with an absolute path."""
    num_train: int
    num_val: int
    num_test: int
    num_classes: int
    """0: unlabelled."""
    side: int
    """Median of the shorter sides of those looked at, in pixels."""
    is_grey: bool
    """Whether all looked at are grey."""
    is_uneven: bool
    """Whether the largest class has UNEVEN times the smallest's training images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Describes what trains."""

    num_cpus: int
    num_gpus: int = 0

    def __str__(self) -> str:
        """Says it in words."""
        gpus = f"{self.num_gpus} GPU{'s' * (self.num_gpus > 1)}" if self.num_gpus else "no GPU"
        return f"{self.num_cpus} core{'s' * (self.num_cpus > 1)}, {gpus}"


def look_at_images(source: str, *, storage: Path, data_root: Path | None) -> Images:
    """Finds the images of a source and looks at some of train; val and test are only counted.

    Raises:
        DataError: they cannot be had, or none of those looked at can be decoded.
    """
    found = load_source(source, split_seed=0, storage=storage, data_root=data_root)
    seen = sample_train(found, NUM_LOOKED_AT)
    if not seen.seen:
        raise DataError(f"no training image of {source} can be decoded; `raysweep data` says why")
    train, val, test = (len(found.records[split]) for split in SPLITS)
    counts = np.bincount(found.records["train"].labels, minlength=len(found.classes))
    return Images(
        source=source,
        num_train=train,
        num_val=val,
        num_test=test,
        num_classes=0 if found.no_classes else len(found.classes),
        side=int(np.median(seen.sides.min(axis=1))),
        is_grey=seen.num_grey == len(seen.seen),
        is_uneven=not found.no_classes and bool(counts.max() >= UNEVEN * counts.min()),
    )


def look_at_machine(*, use_gpus: bool = True) -> Machine:
    """Counts the cores that this process may use, and the GPUs that torch sees."""
    import torch  # slow

    return Machine(num_cpus=count_cores(), num_gpus=torch.cuda.device_count() if use_gpus else 0)
