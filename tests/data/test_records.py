"""Records: the stratified split is exact, disjoint and seeded; the fingerprint sees every change of the files."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.data.records import Records, Source, split_stratified
from raysweep.data.sources.image_folder import load_folder
from raysweep.errors import DataError


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=8),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_a_split_is_disjoint_complete_and_stratified(counts: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    kept, out = split_stratified(labels, share, seed)
    assert np.array_equal(np.sort(np.concatenate([kept, out])), np.arange(len(labels)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(out) > 0).all()
    for label, count in enumerate(counts):
        held_out = int((labels[out] == label).sum())
        assert 1 <= held_out <= count - 1
        assert held_out in (1, count - 1) or abs(held_out - share * count) <= 0.5


def test_a_split_is_decided_by_its_seed() -> None:
    labels = np.repeat(np.arange(3), 50)
    first, again, other = (split_stratified(labels, 0.2, seed)[1] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"at least 2 images.*class number 1 has 1"):
        split_stratified(np.array([0, 0, 0, 1]), 0.2, 0)


def test_taking_rows_keeps_paths_members_and_labels_together() -> None:
    records = Records(paths=["a", "b", "c"], members=np.array([5, 6, 7]), labels=np.array([0, 1, 2]))
    taken = records.take(np.array([2, 0]))
    assert (taken.paths, taken.members.tolist(), taken.labels.tolist()) == (["c", "a"], [7, 5], [2, 0])
    assert len(taken) == 2


@pytest.fixture
def source(tmp_path: Path, make_image_folder: Callable[..., Path]) -> Source:
    make_image_folder(tmp_path / "cars", 2, {"train": 5, "test": 2})
    return load_folder(tmp_path / "cars", name="cars", split_seed=0)


def test_a_fingerprint_is_the_same_for_the_same_files(source: Source, tmp_path: Path) -> None:
    again = load_folder(tmp_path / "cars", name="another name", split_seed=0)
    assert source.fingerprint() == again.fingerprint()


def _touch(folder: Path) -> None:
    os.utime(folder / "train/class0/0000.jpg", ns=(1, 1))


def _grow(folder: Path) -> None:
    path = folder / "test/class1/0001.jpg"
    times = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _remove(folder: Path) -> None:
    (folder / "train/class1/0003.jpg").unlink()


def _rename(folder: Path) -> None:
    (folder / "train/class1/0003.jpg").rename(folder / "train/class1/0009.jpg")


def _rename_class(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "class1").rename(folder / split / "class2")


def _relabel(folder: Path) -> None:
    (folder / "train/class1/0003.jpg").rename(folder / "train/class0/0009.jpg")


@pytest.mark.parametrize("change", [_touch, _grow, _remove, _rename, _rename_class, _relabel])
def test_a_fingerprint_sees_every_change(source: Source, tmp_path: Path, change: Callable[[Path], None]) -> None:
    before = source.fingerprint()
    change(tmp_path / "cars")
    assert load_folder(tmp_path / "cars", name="cars", split_seed=0).fingerprint() != before


def test_a_fingerprint_depends_on_which_images_are_held_out(source: Source, tmp_path: Path) -> None:
    assert load_folder(tmp_path / "cars", name="cars", split_seed=1).fingerprint() != source.fingerprint()


def test_a_fingerprint_depends_on_the_members_of_an_idx_file(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(b"idx")
    records = Records(paths=[str(path)] * 2, members=np.array([0, 1]), labels=np.array([0, 1]))
    source = Source(name="x", classes=("a", "b"), records={"train": records, "val": records, "test": records})
    swapped = replace(source, records={**source.records, "train": records.take(np.array([1, 0]))})
    assert source.fingerprint() != swapped.fingerprint()
