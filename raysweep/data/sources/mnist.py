"""MNIST: handwritten digits."""

from pathlib import Path

from raysweep.data.records import Source
from raysweep.data.sources import refuse_argument
from raysweep.data.sources.torchvision_idx import load_torchvision


def load(argument: str, *, split_seed: int, storage: Path, data_root: Path | None) -> Source:
    """Finds MNIST in `data_root`, else downloads it.

    Raises:
        DataError: it cannot be had; the message says what was tried.
    """
    refuse_argument("mnist", argument)
    return load_torchvision(
        "mnist",
        "MNIST",
        [data_root / "mnist"] if data_root else [],
        split_seed=split_seed,
        storage=storage,
        data_root=data_root,
    )
