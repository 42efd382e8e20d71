"""Sources: each spec leads to the right images, or within seconds to what was tried and the ways to go on."""

import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torchvision

from raysweep.data.drawing.pictures import CLASSES, draw_sample
from raysweep.data.idx import GARMENTS, load_idx
from raysweep.data.records import SPLITS, Source, Split
from raysweep.data.sources import download as downloads
from raysweep.data.sources import fashion_mnist, load_source
from raysweep.data.sources.idx_files import load_idx_source
from raysweep.data.sources.kaggle import load_kaggle
from raysweep.errors import DataError

Make = Callable[..., Path]
WAYS_ON = ("--data PATH", "RAYSWEEP_DATA=FOLDER", "--data sample")
IDX_NAMES = [name for name, _ in torchvision.datasets.FashionMNIST.resources]


def load(spec: str | Path, storage: Path, data_root: Path | None = None, split_seed: int = 0) -> Source:
    return load_source(str(spec), split_seed=split_seed, storage=storage, data_root=data_root)


# Folders and idx files


def test_a_folder_of_images(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", 3, {"train": 5, "test": 2})
    source = load(folder, tmp_path)
    assert source.name == str(folder)
    assert [len(source.records[split]) for split in SPLITS] == [12, 3, 6]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_a_folder_of_idx_files(tmp_path: Path, make_idx_folder: Make, suffix: str, layout: str) -> None:
    folder = make_idx_folder(tmp_path / "bars", 100, 20, layout=layout, suffix=suffix)
    source = load(folder, tmp_path)
    assert source.classes == ("0", "1", "2", "3", "4")
    assert [len(source.records[split]) for split in SPLITS] == [80, 20, 20]
    assert np.bincount(source.records["val"].labels).tolist() == [4] * 5
    assert not source.synthetic


def test_validation_images_of_idx_files_are_training_images(tmp_path: Path, make_idx_folder: Make) -> None:
    folder = make_idx_folder(tmp_path, 100, 20)
    source, other = load(folder, tmp_path), load(folder, tmp_path, split_seed=1)
    members = {split: source.records[split].members for split in SPLITS}
    seen: tuple[Split, ...] = ("train", "val")
    for split in seen:
        assert {Path(path).name for path in source.records[split].paths} == {"train-images-idx3-ubyte"}
    assert {Path(path).name for path in source.records["test"].paths} == {"t10k-images-idx3-ubyte"}
    assert sorted([*members["train"], *members["val"]]) == list(range(100))
    assert members["test"].tolist() == list(range(20))
    labels = load_idx(folder / "train-labels-idx1-ubyte")
    for split in seen:
        assert np.array_equal(source.records[split].labels, labels[members[split]])
    assert np.bincount(source.records["val"].labels).tolist() == [4] * 5
    assert members["val"].tolist() != other.records["val"].members.tolist()


def test_a_missing_folder_names_the_ways_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder") as caught:
        load(tmp_path / "nowhere", tmp_path)
    assert all(way in str(caught.value) for way in (str(tmp_path / "nowhere"), *WAYS_ON))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        pytest.param(
            "train-labels-idx1-ubyte", np.arange(2, dtype=np.uint8), "100, 28, 28.*2 labels", id="fewer labels"
        ),
        pytest.param("t10k-labels-idx1-ubyte", np.zeros(21, np.uint8), "20, 28, 28.*21 labels", id="more labels"),
        pytest.param("train-images-idx3-ubyte", np.zeros((100, 784), np.uint8), "100, 784", id="flat images"),
        pytest.param("train-labels-idx1-ubyte", np.zeros((100, 1), np.uint8), "must match", id="labels in columns"),
        pytest.param(
            "t10k-labels-idx1-ubyte",
            np.full(20, 5, np.uint8),
            "t10k that train has no images of: 5",
            id="class only in test",
        ),
        pytest.param("train-labels-idx1-ubyte", np.zeros(100, np.uint8), "at least 2", id="one class"),
    ],
)
def test_idx_files_that_do_not_fit_are_refused(
    tmp_path: Path, make_idx_folder: Make, write_idx: Make, name: str, values: np.ndarray, message: str
) -> None:
    folder = make_idx_folder(tmp_path)
    write_idx(folder / name, values)
    with pytest.raises(DataError, match=message) as caught:
        load(folder, tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("prefix", ["train", "t10k"])
def test_idx_files_without_images_are_refused(
    tmp_path: Path, make_idx_folder: Make, write_idx: Make, prefix: str
) -> None:
    folder = make_idx_folder(tmp_path)
    write_idx(folder / f"{prefix}-images-idx3-ubyte", np.zeros((0, 28, 28), np.uint8))
    write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.zeros(0, np.uint8))
    with pytest.raises(DataError, match="no images"):
        load(folder, tmp_path)


@pytest.mark.parametrize("name", [name.removesuffix(".gz") for name in IDX_NAMES[1:]])
def test_a_missing_idx_file_is_named(tmp_path: Path, make_idx_folder: Make, name: str) -> None:
    folder = make_idx_folder(tmp_path)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"no {name} or {name}.gz"):
        load(folder, tmp_path)


def test_the_sample_is_drawn_once_and_marked_synthetic(tmp_path: Path) -> None:
    draw_sample(tmp_path / ".cache" / "sample-cars", images_per_class=20)  # as many as 140 take 17 s
    first = load("sample", tmp_path)
    drawn = Path(first.records["train"].paths[0]).stat().st_mtime_ns
    source = load("sample", tmp_path)
    assert source.synthetic
    assert "synthetic" in source.name
    assert source.classes == CLASSES
    assert [len(source.records[split]) for split in SPLITS] == [13 * 14, 13 * 3, 13 * 3]
    assert source.fingerprint() == first.fingerprint()
    assert Path(source.records["train"].paths[0]).stat().st_mtime_ns == drawn


# Kaggle


def test_a_nested_kaggle_archive_with_thirteen_classes(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path / "versions" / "1" / "Iranian Cars" / "cars", CLASSES, 20)
    (tmp_path / "versions" / "1" / "__MACOSX").mkdir()
    asked = []

    def download(handle: str) -> str:
        asked.append(handle)
        return str(tmp_path / "versions" / "1")

    source = load_kaggle("owner/cars", split_seed=0, download=download)
    assert asked == ["owner/cars"]
    assert source.name == "kaggle:owner/cars"
    assert source.classes == CLASSES
    assert [len(source.records[split]) for split in SPLITS] == [13 * 14, 13 * 3, 13 * 3]


def test_a_kaggle_archive_with_splits(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path / "archive", CLASSES, {"train": 5, "test": 2})
    source = load_kaggle("owner/cars", split_seed=0, download=lambda _: str(tmp_path))
    assert [len(source.records[split]) for split in SPLITS] == [13 * 4, 13, 13 * 2]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ConnectionError("403 Client Error.\n\nYou don't have permission."), "403 Client Error. You don't have permis"),
        (ValueError("Invalid dataset handle: owner"), "Invalid dataset handle: owner"),
        (TimeoutError(), "TimeoutError"),
        (SystemError("first" + " long" * 1000), "first long long"),
    ],
)
def test_a_failed_kaggle_download_names_the_ways_on(error: Exception, shown: str) -> None:
    def download(_: str) -> str:
        raise error

    with pytest.raises(DataError) as caught:
        load_kaggle("owner/cars", split_seed=0, download=download)
    message = str(caught.value)
    assert all(part in message for part in ("owner/cars", "kagglehub.dataset_download", shown, *WAYS_ON))
    assert max(map(len, message.splitlines())) < 500


def test_a_download_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "DOWNLOAD_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def download(_: str) -> str:
            with socket.create_connection(server.getsockname()) as connection:
                return connection.recv(1).decode()

        began = time.monotonic()
        with pytest.raises(DataError, match="timed out"):
            load_kaggle("owner/cars", split_seed=0, download=download)
        assert time.monotonic() - began < 5
    assert socket.getdefaulttimeout() is None


# MNIST and Fashion-MNIST: the real download code of torchvision, against servers on this machine


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Lets torchvision's Fashion-MNIST come from another address, and hides an installed copy."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("no_proxy", "*")
    return lambda address: monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [address])


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Does nothing."""


@pytest.fixture
def served(
    tmp_path: Path, make_idx_folder: Make, mirror: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder of .gz idx files that torchvision downloads as Fashion-MNIST."""
    folder = make_idx_folder(tmp_path / "served", 100, 20, suffix=".gz")
    sums = [(name, hashlib.md5((folder / name).read_bytes()).hexdigest()) for name in IDX_NAMES]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", sums)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirror(f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()


def test_fashion_mnist_that_cannot_be_had_says_what_was_tried(tmp_path: Path, mirror: Callable[[str], None]) -> None:
    mirror("http://127.0.0.1:9/")
    began = time.monotonic()
    with pytest.raises(DataError, match="fashion-mnist cannot be had here") as caught:
        load("fashion-mnist", tmp_path / "storage")
    assert time.monotonic() - began < 10
    tried = ("RAYSWEEP_DATA is not set", str(tmp_path / "debian"), "torchvision's download", "Connection refused")
    assert all(part in str(caught.value) for part in (*tried, *WAYS_ON))


def test_a_data_root_without_it_is_named(tmp_path: Path, mirror: Callable[[str], None]) -> None:
    mirror("http://127.0.0.1:9/")
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", tmp_path / "storage", data_root=tmp_path / "data")
    assert str(tmp_path / "data" / "fashion-mnist") in str(caught.value)
    assert "RAYSWEEP_DATA is not set" not in str(caught.value)


def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, mirror: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "DOWNLOAD_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        mirror(f"http://127.0.0.1:{server.getsockname()[1]}/")
        began = time.monotonic()
        with pytest.raises(DataError, match="timed out"):
            load("fashion-mnist", tmp_path / "storage")
        assert time.monotonic() - began < 5


def test_what_is_downloaded_is_found_by_the_next(tmp_path: Path, served: Path, mirror: Callable[[str], None]) -> None:
    source = load("fashion-mnist", tmp_path / "storage")
    assert source.name == "fashion-mnist"
    assert [len(source.records[split]) for split in SPLITS] == [80, 20, 20]
    mirror("http://127.0.0.1:9/")
    assert load("fashion-mnist", tmp_path / "storage").fingerprint() == source.fingerprint()


def test_an_interrupted_download_goes_on(tmp_path: Path, served: Path) -> None:
    raw = tmp_path / "storage" / ".cache" / "torchvision" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / IDX_NAMES[0]).write_bytes((served / IDX_NAMES[0]).read_bytes()[:500])
    source = load("fashion-mnist", tmp_path / "storage")
    assert [len(source.records[split]) for split in SPLITS] == [80, 20, 20]


def test_real_fashion_mnist(tmp_path: Path, data_root: Path) -> None:
    if not (data_root / "fashion-mnist").is_dir():
        pytest.skip(f"no fashion-mnist in {data_root}")
    source = load("fashion-mnist", tmp_path, data_root=data_root)
    assert source.classes == GARMENTS
    sizes: dict[Split, int] = {"train": 48_000, "val": 12_000, "test": 10_000}
    for split, size in sizes.items():
        assert np.bincount(source.records[split].labels).tolist() == [size // 10] * 10
    assert os.path.commonpath(source.records["train"].paths).startswith(str(data_root.resolve()))
    assert not list(tmp_path.iterdir())


def test_real_mnist(data_root: Path) -> None:
    if not (data_root / "mnist").is_dir():
        pytest.skip(f"no mnist in {data_root}")
    source = load_idx_source(data_root / "mnist", name="mnist", split_seed=0)
    assert source.classes == tuple("0123456789")
    assert [len(source.records[split]) for split in SPLITS] == [48_000, 12_000, 10_000]
