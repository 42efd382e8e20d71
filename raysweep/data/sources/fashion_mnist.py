"""Fashion-MNIST: garments."""

from pathlib import Path

from raysweep.data.records import Source
from raysweep.data.sources import refuse_argument
from raysweep.data.sources.torchvision_idx import load_torchvision

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""


def load(argument: str, *, split_seed: int, storage: Path, data_root: Path | None) -> Source:
    """Finds Fashion-MNIST in `data_root` or where Debian installs it, else downloads it.

    Raises:
        DataError: it cannot be had; the message says what was tried.
    """
    refuse_argument("fashion-mnist", argument)
    folders = [data_root / "fashion-mnist"] if data_root else []
    return load_torchvision(
        "fashion-mnist",
        "FashionMNIST",
        [*folders, DEBIAN_FOLDER],
        split_seed=split_seed,
        storage=storage,
        data_root=data_root,
    )
