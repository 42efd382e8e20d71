"""What tests share: one local Ray cluster per session, and factories of small data sets in real files."""

import gzip
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 80, 230), (230, 210, 50), (200, 60, 210), (60, 210, 220))
"""Class k is drawn in colour k (and from the seventh on in darker ones)."""


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A local Ray cluster with this machine's CPUs, as `raysweep tune --address local` starts it."""
    ray = pytest.importorskip("ray")
    from raysweep.search.run import connect

    connect("local")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: RAYSWEEP_DATA, else ../shared/data; skips the test where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RAYSWEEP_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real data sets: RAYSWEEP_DATA is not set and ../shared/data is not there")
    return folder


def _draw(label: int, width: int, height: int, random: np.random.Generator) -> Image.Image:
    """A picture whose class is its colour: a disc of it on grey, with noise."""
    colour = np.array(COLOURS[label % len(COLOURS)]) * 0.6 ** (label // len(COLOURS))
    y, x = np.mgrid[0:height, 0:width]
    centre_x, centre_y = random.uniform(0.4, 0.6, 2)
    disc = (x / width - centre_x) ** 2 + (y / height - centre_y) ** 2 < 0.14
    pixels = np.where(disc[:, :, None], colour, random.uniform(60, 190)) + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _make_image_folder(
    root: Path,
    classes: int | Sequence[str] = 3,
    per_class: int | Mapping[str, int] = 10,
    *,
    size: tuple[int, int] = (40, 30),
    varied: bool = False,
    suffix: str = ".jpg",
    seed: int = 0,
) -> Path:
    names = [f"class{label}" for label in range(classes)] if isinstance(classes, int) else list(classes)
    counts = {"": per_class} if isinstance(per_class, int) else per_class
    random = np.random.default_rng(seed)
    for split, count in counts.items():
        for label, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                width, height = (int(side * random.uniform(0.5, 2)) if varied else side for side in size)
                _draw(label, width, height, random).save(folder / f"{index:04d}{suffix}")
    return root


def _write_idx(path: Path, values: npt.NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def _make_idx_folder(
    root: Path,
    num_train: int = 100,
    num_test: int = 20,
    *,
    classes: int = 5,
    side: int = 28,
    layout: str = ".",
    suffix: str = "",
    seed: int = 0,
) -> Path:
    random = np.random.default_rng(seed)
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        labels = random.permutation(np.arange(count) % classes).astype(np.uint8)
        images = random.integers(0, 40, (count, side, side), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[label * side // classes : (label + 1) * side // classes] += 200
        _write_idx(root / layout / f"{prefix}-images-idx3-ubyte{suffix}", images)
        _write_idx(root / layout / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return root


@pytest.fixture(scope="session")
def make_image_folder() -> Callable[..., Path]:
    """`(root, classes=3, per_class=10, *, size=(40, 30), varied=False, suffix=".jpg", seed=0)` -> root.

    Real JPEG or PNG files; the class is the colour, so a model can learn it. `classes` is a number or
    names, `per_class` a number (`root/<class>`) or one for each split (`root/<split>/<class>`).
    """
    return _make_image_folder


@pytest.fixture(scope="session")
def make_idx_folder() -> Callable[..., Path]:
    """`(root, num_train=100, num_test=20, *, classes=5, side=28, layout=".", suffix="", seed=0)` -> root.

    Four idx files; the class is the place of a bright bar. `suffix=".gz"` compresses them.
    """
    return _make_idx_folder


@pytest.fixture(scope="session")
def write_idx() -> Callable[[Path, npt.NDArray[np.uint8]], Path]:
    """Writes an array as an idx file of unsigned bytes, compressed where the path ends in .gz."""
    return _write_idx
