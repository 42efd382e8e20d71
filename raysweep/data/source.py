"""Where images come from: a folder, idx files, Kaggle, or the built-in sample."""

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np

from raysweep.data.folder import find_class_folder, load_folder
from raysweep.data.idx import find_idx_file, load_idx, name_classes
from raysweep.data.records import Records, Source, split_stratified
from raysweep.data.sample import draw_sample
from raysweep.errors import DataError, RaysweepError

TORCHVISION_NAMES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
DEBIAN_FOLDERS = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
IDX_VAL_SHARE = 0.20
DOWNLOAD_TIMEOUT_S = 5.0
WAYS_ON = """Three ways to go on:
  --data PATH           a folder of images (train|val|test/<class>/*.jpg|png, or <class>/*.jpg|png) or of idx files
  RAYSWEEP_DATA=FOLDER  a folder that holds mnist/ and fashion-mnist/
  --data sample         the built-in sample: drawn cars, synthetic, for trying things out"""


def load_source(spec: str, *, split_seed: int, storage: Path, data_root: Path | None = None) -> Source:
    """Finds the images that `spec` names: a folder, `sample`, `mnist`, `fashion-mnist`, `kaggle:OWNER/NAME`.

    `data_root` is a folder that may hold mnist/ and fashion-mnist/; what is drawn or downloaded goes
    below `storage`.

    Raises:
        DataError: the images cannot be had; the message says what was tried and the ways to go on.
    """
    if spec == "sample":
        folder = storage / ".cache" / "sample-cars"
        draw_sample(folder)
        return load_folder(folder, name="sample (synthetic)", split_seed=split_seed, synthetic=True)
    if spec in TORCHVISION_NAMES:
        return _load_named_idx(spec, split_seed, storage, data_root)
    if spec.startswith("kaggle:"):
        return load_kaggle(spec.removeprefix("kaggle:"), split_seed=split_seed)
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        raise DataError(f"no folder {spec}.\n{WAYS_ON}")
    if find_idx_file(folder, "train-images-idx3-ubyte"):
        return load_idx_source(folder, name=str(folder), split_seed=split_seed)
    return load_folder(find_class_folder(folder), name=str(folder), split_seed=split_seed)


def load_idx_source(folder: Path, *, name: str, split_seed: int) -> Source:
    """idx files: a seeded, stratified 20 % of the training files is the validation split.

    Raises:
        DataError: a file is missing, damaged or does not fit the others.
    """
    paths = {}
    for part in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        path = find_idx_file(folder, part)
        if path is None:
            raise DataError(f"{folder} has some idx files but no {part} or {part}.gz.\n{WAYS_ON}")
        paths[part] = path.resolve()
    pools = {}
    for prefix in ("train", "t10k"):
        images, labels = paths[f"{prefix}-images-idx3-ubyte"], load_idx(paths[f"{prefix}-labels-idx1-ubyte"])
        if load_idx(images).shape[:1] != labels.shape or load_idx(images).ndim != 3:
            raise DataError(f"{images} has shape {load_idx(images).shape} for {len(labels)} labels; they must match")
        if not len(labels):
            raise DataError(f"{images} has no images")
        pools[prefix] = Records(
            paths=[str(images)] * len(labels), members=np.arange(len(labels)), labels=labels.astype(np.int64)
        )
    pool = pools["train"]
    if len(np.unique(pool.labels)) < 2:
        raise DataError(f"{folder} has one class in train, {pool.labels[0]}: classification needs at least 2")
    if unknown := sorted(set(pools["t10k"].labels.tolist()) - set(pool.labels.tolist())):
        raise DataError(f"{folder} has classes in t10k that train has no images of: {', '.join(map(str, unknown))}")
    train, val = split_stratified(pool.labels, IDX_VAL_SHARE, split_seed)
    return Source(
        name=name,
        classes=name_classes(pool.labels.astype(np.uint8)),
        records={"train": pool.take(train), "val": pool.take(val), "test": pools["t10k"]},
    )


def load_kaggle(handle: str, *, split_seed: int, download: Callable[[str], str] | None = None) -> Source:
    """An image folder from Kaggle. `download` takes the handle and returns a folder: kagglehub, unless given.

    Raises:
        DataError: Kaggle cannot be reached or refuses.
    """
    if download is None:
        import kagglehub

        download = kagglehub.dataset_download
    try:
        folder = _with_timeout(lambda: download(handle))
    except RaysweepError:
        raise
    except Exception as error:  # kagglehub raises requests', its own and plain exceptions
        raise DataError(
            f"Kaggle's {handle} cannot be had here: tried kagglehub.dataset_download({handle!r}), "
            f"which said: {_one_line(error)}\n"
            "With network and, where it asks for one, a Kaggle account (KAGGLE_USERNAME, KAGGLE_KEY) it works as is.\n"
            f"{WAYS_ON}"
        ) from error
    return load_folder(find_class_folder(Path(folder)), name=f"kaggle:{handle}", split_seed=split_seed)


def _load_named_idx(name: str, split_seed: int, storage: Path, data_root: Path | None) -> Source:
    downloads = storage / ".cache" / "torchvision"
    folders = [data_root / name] if data_root else []
    folders += [DEBIAN_FOLDERS[name]] if name in DEBIAN_FOLDERS else []
    for folder in folders:
        if folder.is_dir() and find_idx_file(folder, "train-images-idx3-ubyte"):
            return load_idx_source(folder, name=name, split_seed=split_seed)
    import torchvision

    try:  # does nothing where all its files are there, and goes on where an earlier download stopped
        dataset = getattr(torchvision.datasets, TORCHVISION_NAMES[name])
        _with_timeout(lambda: dataset(downloads, download=True))
    except Exception as error:  # urllib's, torchvision's and the socket's exceptions alike: no data
        tried = "".join(f"\n  {folder}: no idx files" for folder in folders)
        unset = "" if data_root else "\n  RAYSWEEP_DATA is not set"
        raise DataError(
            f"{name} cannot be had here. Tried:{unset}{tried}\n  torchvision's download: {_one_line(error)}\n{WAYS_ON}"
        ) from error
    return load_idx_source(downloads / TORCHVISION_NAMES[name] / "raw", name=name, split_seed=split_seed)


def _with_timeout(connect: Callable[[], str]) -> str:
    """Calls `connect` with a limit on each wait for the network."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        return connect()
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
