"""Copies of decoded images on a node's own disk: made once, checked, and no reason for a trial to fail."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from raysweep.data import node_copies
from raysweep.data.images import DataInfo, PreparedData
from raysweep.data.node_copies import copy_once, find_file_system, is_on_network, read_nearby

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    held: dict[Path, IO[bytes]] = {}
    monkeypatch.setattr(node_copies, "_held", held)
    monkeypatch.setattr(node_copies, "_said", set())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 0, 10**9))  # however full this disk is
    yield
    for lock in held.values():
        lock.close()


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """Ten training and four validation images."""
    folder = tmp_path / "storage"
    for split, count in (("train", 10), ("val", 4)):
        place = folder / split
        place.mkdir(parents=True)
        np.save(place / "images.npy", np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), np.uint8))
        np.save(place / "rows.npy", np.arange(count))
        np.save(place / "labels.npy", np.zeros(count, np.int64))
    info = DataInfo(source="s", synthetic=False, digest="d", classes=("a", "b"), num_train=10, num_val=4, num_test=2)
    return PreparedData(folder=folder, info=info)


@pytest.fixture
def near(tmp_path: Path) -> Path:
    folder = tmp_path / "near"
    folder.mkdir()
    return folder


def count_copies(folder: Path) -> int:
    return len(list(folder.glob("*.npy")))


def test_images_on_a_local_disk_are_not_copied(data: PreparedData, near: Path) -> None:
    found, sentence = read_nearby(data, near)
    assert (found, sentence, list(near.iterdir())) == (data, None, [])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ext4", False),
        ("xfs", False),
        ("overlay", False),
        ("", False),
        ("nfs4", True),
        ("lustre", True),
        ("fuse.s3fs", True),
    ],
)
def test_network_storage_is_told_by_its_type(kind: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = namedtuple("partition", "mountpoint fstype")
    mounts = [
        partition("/", "ext4"),
        partition("/mnt", "xfs"),
        partition("/mnt/shared", kind),
        partition("/mnt/s", "nfs"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert find_file_system(Path("/mnt/shared/cache/images.npy")) == kind
    assert is_on_network(Path("/mnt/shared/cache/images.npy")) is expected
    assert not is_on_network(Path("/mnt/other"))


def test_pixels_are_read_from_copies_and_labels_where_they_were(
    data: PreparedData, near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_copies, "is_on_network", lambda path: True)
    found, sentence = read_nearby(data, near)
    assert sentence is None
    assert count_copies(near) == 2
    expected = data.train.gather(np.arange(10))
    (data.folder / "train" / "images.npy").unlink()
    assert np.array_equal(found.train.gather(np.arange(10)), expected)
    assert found.folder == data.folder


def test_a_part_of_the_images_is_read_from_the_copy_of_the_whole(
    data: PreparedData, near: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_copies, "is_on_network", lambda path: True)
    part = data.take_subset(tmp_path / "part", 3, 2)
    assert np.array_equal(read_nearby(part, near)[0].train.gather(np.arange(3)), part.train.gather(np.arange(3)))
    read_nearby(data, near)
    assert count_copies(near) == 2


def test_processes_side_by_side_copy_once(data: PreparedData, near: Path) -> None:
    script = (
        "import shutil, sys, time\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from raysweep.data import node_copies\n"
        "shutil.disk_usage = lambda folder: SimpleNamespace(total=10**9, free=10**9)\n"
        "copy = node_copies._copy\n"
        "node_copies._copy = lambda *paths: (print('copies', flush=True), time.sleep(0.5), copy(*paths))\n"
        "print(node_copies.copy_once(Path(sys.argv[1]), Path(sys.argv[2])).stat().st_size, flush=True)\n"
    )
    original = data.folder / "train" / "images.npy"
    command = [sys.executable, "-c", script, str(original), str(near)]
    environment = {**os.environ, "PYTHONPATH": str(Path(node_copies.__file__).parents[2])}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].split() for process in running]
    assert sum("copies" in words for words in said) == 1
    assert [words[-1] for words in said] == [str(original.stat().st_size)] * 3


def test_a_copy_that_was_changed_or_is_of_an_older_file_is_made_again(data: PreparedData, near: Path) -> None:
    original = data.folder / "train" / "images.npy"
    copy = copy_once(original, near)
    copy.write_bytes(b"cut")
    assert copy_once(original, near).read_bytes() == original.read_bytes()
    copy.unlink()
    assert copy_once(original, near).read_bytes() == original.read_bytes()
    np.save(original, np.zeros((1, 8, 8, 3), np.uint8))
    assert copy_once(original, near).read_bytes() == original.read_bytes()


def test_without_room_images_are_read_where_they_are_and_that_is_said_once(
    data: PreparedData, near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_copies, "is_on_network", lambda path: True)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10_000, 8_000, 2_000))
    found, sentence = read_nearby(data, near)
    assert found == data
    assert sentence is not None
    assert "must have 2.05 kB and a tenth of its disk free, got 2 kB" in sentence
    assert read_nearby(data, near) == (data, None)
    assert not count_copies(near)


def test_copies_that_nobody_reads_make_room(data: PreparedData, near: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = copy_once(data.folder / "train" / "images.npy", near)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10_000, 0, 9_000 - 8_000 * count_copies(near)))
    with pytest.raises(OSError, match="free"):
        copy_once(data.folder / "val" / "images.npy", near)
    assert first.exists()  # this process reads it
    node_copies._held.pop(first).close()
    second = copy_once(data.folder / "val" / "images.npy", near)
    assert second.exists()
    assert not first.exists()
