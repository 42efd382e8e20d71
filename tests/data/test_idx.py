"""idx files: plain, .gz and in torchvision's layout are read exactly; damage is a DataError that says what."""

import contextlib
import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.data.idx import DIGITS, GARMENTS, find_idx_file, load_idx, name_classes
from raysweep.errors import DataError

Write = Callable[[Path, npt.NDArray[np.uint8]], Path]
IMAGES = "train-images-idx3-ubyte"
VALUES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
HEADER = struct.pack(">HBB3I", 0, 8, 3, *VALUES.shape)


@pytest.mark.parametrize("name", [IMAGES, f"{IMAGES}.gz"])
def test_values_are_read_exactly(tmp_path: Path, write_idx: Write, name: str) -> None:
    values = load_idx(write_idx(tmp_path / name, VALUES))
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, VALUES)


def test_labels_have_one_dimension(tmp_path: Path, write_idx: Write) -> None:
    labels = load_idx(write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([3, 1, 2], dtype=np.uint8)))
    assert labels.tolist() == [3, 1, 2]


def test_a_rewritten_file_is_read_again(tmp_path: Path, write_idx: Write) -> None:
    path = write_idx(tmp_path / IMAGES, VALUES)
    load_idx(path)
    write_idx(path, VALUES[:3] ^ np.uint8(255))
    os.utime(path, ns=(0, 0))
    np.testing.assert_array_equal(load_idx(path), VALUES[:3] ^ np.uint8(255))


@pytest.mark.parametrize("layout", [".", "raw", "MNIST/raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_found_in_every_layout(tmp_path: Path, write_idx: Write, layout: str, suffix: str) -> None:
    path = write_idx(tmp_path / layout / f"{IMAGES}{suffix}", VALUES)
    found = find_idx_file(tmp_path, IMAGES)
    assert found is not None
    assert found.samefile(path)
    assert find_idx_file(tmp_path, "t10k-images-idx3-ubyte") is None


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        pytest.param(IMAGES, HEADER + VALUES.tobytes()[:-1], "truncated.*60 values.*59", id="one value short"),
        pytest.param(IMAGES, HEADER, "truncated.*60 values.*has 0", id="header only"),
        pytest.param(IMAGES, HEADER[:9], "cannot be read as an idx file", id="half a header"),
        pytest.param(IMAGES, b"", "cannot be read as an idx file", id="empty"),
        pytest.param(IMAGES, b"<!DOCTYPE html><html>" * 50, "idx file", id="a web page"),
        pytest.param(IMAGES, bytes(range(256)) * 8, "no idx file of unsigned bytes", id="garbage"),
        pytest.param(IMAGES, struct.pack(">HBBI", 0, 13, 1, 1) + b"\0" * 4, "unsigned bytes", id="idx of floats"),
        pytest.param(IMAGES, HEADER + VALUES.tobytes() + b"more", "60 values, it has more", id="too long"),
        pytest.param(
            IMAGES, struct.pack(">HBB4I", 0, 8, 4, *[2**16] * 4), r"18446744073709551616 values", id="over 64 bits"
        ),
        pytest.param(f"{IMAGES}.gz", gzip.compress(HEADER + VALUES.tobytes())[:-9], "cannot be read", id="short gzip"),
        pytest.param(f"{IMAGES}.gz", HEADER + VALUES.tobytes(), "cannot be read", id="plain, named .gz"),
        pytest.param(f"{IMAGES}.gz", b"\x1f\x8b\x08" + b"\7" * 40, "cannot be read", id="garbage in gzip"),
    ],
)
def test_damage_is_a_data_error_with_the_path(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load_idx(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_idx(tmp_path / IMAGES)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=64) | st.binary(max_size=64).map(lambda rest: b"\0\0\x08" + rest), zipped=st.booleans())
def test_any_bytes_are_an_array_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, zipped: bool
) -> None:
    path = tmp_path_factory.mktemp("bytes") / ("file.gz" if zipped else "file")
    path.write_bytes(data)
    with contextlib.suppress(DataError):
        assert load_idx(path).dtype == np.uint8


def test_class_names_are_numbers_unless_the_labels_are_known() -> None:
    assert name_classes(np.array([0, 2, 1, 2], dtype=np.uint8)) == ("0", "1", "2")


@pytest.mark.parametrize(("name", "classes"), [("mnist", DIGITS), ("fashion-mnist", GARMENTS)])
def test_real_labels_are_recognised(data_root: Path, name: str, classes: tuple[str, ...]) -> None:
    path = find_idx_file(data_root / name, "train-labels-idx1-ubyte")
    if path is None:
        pytest.skip(f"no {name} in {data_root}")
    assert name_classes(load_idx(path)) == classes


@pytest.mark.parametrize("num_images", [5, 2**32 - 1])
def test_a_gzip_file_is_read_no_further_than_its_header_says(tmp_path: Path, num_images: int) -> None:
    path = tmp_path / f"{IMAGES}.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(struct.pack(">HBB3I", 0, 8, 3, num_images, 2**16, 2**10) if num_images > 5 else HEADER)
        for _ in range(200):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match="is too long" if num_images == 5 else "is truncated"):
        load_idx(path)
    assert num_images > 5 or tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("labels", [[0, 1, 255], [0, 2], [1, 3]])
def test_labels_beyond_the_classes_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="labels must be the numbers 0 to N - 1"):
        name_classes(np.array(labels, dtype=np.uint8))
