"""What lies in real folders: hidden files, other formats, links and folders given one level off are told, not taken."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.data.records import SPLITS, Source
from raysweep.data.sources import load_source, resolve_source
from raysweep.errors import DataError, UsageError

Make = Callable[..., Path]


def load(folder: Path) -> Source:
    return load_source(str(folder), split_seed=0, storage=folder.parent / "results")


def load_classes(folder: Path) -> None:
    """Raises what a task that needs classes says."""
    if reason := load(folder).no_classes:
        raise DataError(reason)


def count(source: Source) -> int:
    return sum(len(source.records[split]) for split in SPLITS)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".venv", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "Lost+Found"])
def test_hidden_folders_are_no_classes_and_hold_no_images(tmp_path: Path, make_image_folder: Make, name: str) -> None:
    folder = make_image_folder(tmp_path / "cars", ("a", "b", name), 5)
    make_image_folder(folder / "a", (name,), 5)
    source = load(folder)
    assert source.classes == ("a", "b")
    assert count(source) == 10


def test_other_formats_are_counted_and_named(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", 2, 5)
    for name in ("class0/1.heic", "class0/2.HEIC", "class1/1.svg", "class1/notes.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "class1/gone.jpg").symlink_to("/nowhere/gone.jpg")
    notes = " ".join(load(folder).notes)
    assert "4 files of other formats: .heic 2, .svg 1, links to nothing 1; taken are JPEG, PNG, WebP" in notes


def test_a_folder_with_other_formats_only_says_so(tmp_path: Path) -> None:
    (tmp_path / "cars" / "a").mkdir(parents=True)
    (tmp_path / "cars" / "a" / "1.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no images: .* 1 file of other formats: \.heic 1; .*convert"):
        load(tmp_path / "cars")


def test_a_class_that_is_another_by_a_link(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", ("a", "b"), 5)
    (folder / "c").symlink_to(folder / "a")
    with pytest.raises(DataError, match=r"/a and .*/c are the same folder"):
        load(folder)


def test_a_test_split_that_is_train_by_a_link(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", ("a", "b"), {"train": 5})
    (folder / "test").symlink_to("train")
    with pytest.raises(DataError, match="are the same folder by a link"):
        load(folder)


def test_a_folder_one_too_deep(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", ("a", "b"), 5)
    with pytest.raises(DataError, match=f"5 lie in it itself: one class of the folder above, {folder}"):
        load_classes(folder / "a")


def test_a_folder_too_high_with_one_class(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path / "all" / "cars", ("a", "b"), 5)
    (tmp_path / "all" / "readme").mkdir()
    with pytest.raises(DataError, match=r"one class, cars: .*of its own, a, b: .*--data .*/all/cars$"):
        load_classes(tmp_path / "all")


@pytest.mark.parametrize("place", ["", "x", "x/y"])
def test_one_class_is_named_with_its_own_folder(tmp_path: Path, make_image_folder: Make, place: str) -> None:
    make_image_folder(tmp_path / "cars" / place, ("only",), 5)
    with pytest.raises(DataError, match=f"{tmp_path / 'cars' / place} has one class, only"):
        load_classes(tmp_path / "cars")


def test_a_split_given_alone_and_data_sets_as_classes_are_told(tmp_path: Path, make_image_folder: Make) -> None:
    cars = make_image_folder(tmp_path / "all" / "cars", 2, {"train": 5, "test": 5})
    make_image_folder(tmp_path / "all" / "vans", 2, {"train": 5, "test": 5})
    assert any("test beside it left out" in note for note in load(cars / "train").notes)
    assert any("/cars has train/ and test/ of its own" in note for note in load(tmp_path / "all").notes)


def test_the_storage_is_no_class(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", ("a", "b", "results"), 5)
    with pytest.raises(DataError, match="the storage, would be a class"):
        load_source(str(folder), split_seed=0, storage=folder / "results")


@pytest.mark.parametrize("spec", ["", " ", "~nobody-of-this-name/cars"])
def test_no_path_is_no_folder(spec: str) -> None:
    with pytest.raises(UsageError, match="--data must be a path"):
        resolve_source(spec)
