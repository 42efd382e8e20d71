"""Image folders: every layout gives the right splits, sizes and labels; what cannot be used is refused by name."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysweep.data.records import SPLITS, WHOLE_FILE, Source, Split
from raysweep.data.sources.image_folder import find_class_folder, load_folder
from raysweep.errors import DataError

Make = Callable[..., Path]


def load_classes(folder: Path) -> None:
    """Raises what a task that needs classes says."""
    if reason := load(folder).no_classes:
        raise DataError(reason)


def load(folder: Path, split_seed: int = 0) -> Source:
    return load_folder(folder, name="cars", split_seed=split_seed)


def count(source: Source, split: Split) -> dict[str, int]:
    """Images of each class in a split."""
    return dict(Counter(source.classes[label] for label in source.records[split].labels))


def check_whole(source: Source, folder: Path) -> None:
    """Every image of the folder is in one split, with the class that its path says."""
    paths = [path for split in SPLITS for path in source.records[split].paths]
    assert sorted(paths) == sorted(str(path.resolve()) for path in folder.rglob("*.jpg"))
    for split in SPLITS:
        records = source.records[split]
        assert [Path(path).parent.name for path in records.paths] == [source.classes[n] for n in records.labels]
        assert (records.members == WHOLE_FILE).all()
        assert records.labels.dtype == np.int64


def test_three_splits_are_taken_as_they_are(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path, ("Quik", "Arisun", "Nissan-Zamiad"), {"train": 6, "val": 3, "test": 2})
    source = load(tmp_path)
    assert source.classes == ("Arisun", "Nissan-Zamiad", "Quik")
    sizes: dict[Split, int] = {"train": 6, "val": 3, "test": 2}
    for split, size in sizes.items():
        assert count(source, split) == dict.fromkeys(source.classes, size)
        assert all(Path(path).parts[-3] == split for path in source.records[split].paths)
    check_whole(source, tmp_path)
    assert not source.synthetic


def test_without_val_a_fifth_of_train_is_held_out(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path, 3, {"train": 20, "test": 4})
    source = load(tmp_path)
    assert count(source, "train") == dict.fromkeys(source.classes, 16)
    assert count(source, "val") == dict.fromkeys(source.classes, 4)
    assert count(source, "test") == dict.fromkeys(source.classes, 4)
    assert all(Path(path).parts[-3] == "train" for path in source.records["val"].paths)
    check_whole(source, tmp_path)


def test_without_splits_each_class_is_split_70_15_15(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path, ("a", "b"), 20)
    make_image_folder(tmp_path, ("c",), 100)
    source = load(tmp_path)
    assert count(source, "train") == {"a": 14, "b": 14, "c": 70}
    assert count(source, "val") == {"a": 3, "b": 3, "c": 15}
    assert count(source, "test") == {"a": 3, "b": 3, "c": 15}
    check_whole(source, tmp_path)


@pytest.mark.parametrize("per_class", [{"train": 20, "test": 2}, 20])
def test_held_out_images_are_decided_by_the_seed(
    tmp_path: Path, make_image_folder: Make, per_class: int | dict[str, int]
) -> None:
    make_image_folder(tmp_path, 2, per_class)
    first, again, other = load(tmp_path, 3), load(tmp_path, 3), load(tmp_path, 4)
    assert first.records["val"].paths == again.records["val"].paths
    assert first.records["val"].paths != other.records["val"].paths


def test_three_images_of_a_class_are_enough(tmp_path: Path, make_image_folder: Make) -> None:
    source = load(make_image_folder(tmp_path, 2, 3))
    assert [len(source.records[split]) for split in SPLITS] == [2, 2, 2]


def test_jpeg_and_png_in_any_case_and_depth_are_images(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path, 2, 4)
    (tmp_path / "class0/0000.jpg").rename(tmp_path / "class0/0000.JPG")
    (tmp_path / "class0/0001.jpg").rename(tmp_path / "class0/0001.jpeg")
    (tmp_path / "class0/front").mkdir()
    (tmp_path / "class0/0002.jpg").rename(tmp_path / "class0/front/0002.Png")
    for name in ("class0/notes.txt", "class0/.hidden.jpg", "class0/._0001.jpg", "readme.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "class1/folder.jpg").mkdir()
    (tmp_path / "documents").mkdir()
    source = load(tmp_path)
    assert source.classes == ("class0", "class1")
    assert sum(len(source.records[split]) for split in SPLITS) == 8


def test_a_class_may_be_missing_from_test(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path, ("a", "b", "c"), {"train": 5})
    make_image_folder(tmp_path, ("a", "c"), {"test": 2})
    source = load(tmp_path)
    assert source.classes == ("a", "b", "c")
    assert count(source, "test") == {"a": 2, "c": 2}


def _empty(folder: Path, _: Make) -> None:
    (folder / "class0").mkdir()


def _no_images(folder: Path, _: Make) -> None:
    (folder / "class0").mkdir()
    (folder / "class0" / "notes.txt").write_text("none yet")


def _images_without_class(folder: Path, make: Make) -> None:
    make(folder, ("",), 3)


def _one_class(folder: Path, make: Make) -> None:
    make(folder, ("Quik",), 10)


def _one_class_in_splits(folder: Path, make: Make) -> None:
    make(folder, ("Quik",), {"train": 5, "test": 2})


def _test_only_class(folder: Path, make: Make) -> None:
    make(folder, 2, {"train": 5, "test": 2})
    make(folder, ("Atlas",), {"test": 2})


def _val_only_class(folder: Path, make: Make) -> None:
    make(folder, 2, {"train": 5, "val": 2, "test": 2})
    make(folder, ("Atlas",), {"val": 2})


def _two_val_splits(folder: Path, make: Make) -> None:
    make(folder, 2, {"train": 5, "val": 2, "valid": 2})


def _test_without_train(folder: Path, make: Make) -> None:
    make(folder, 2, {"test": 5})


def _empty_test(folder: Path, make: Make) -> None:
    make(folder, 2, {"train": 5, "test": 0})


def _empty_val(folder: Path, make: Make) -> None:
    make(folder, 2, {"train": 5, "val": 0, "test": 2})


def _two_images_of_a_class(folder: Path, make: Make) -> None:
    make(folder, ("Quik",), 10)
    make(folder, ("Atlas",), 2)


def _one_training_image_of_a_class(folder: Path, make: Make) -> None:
    make(folder, ("Quik", "Atlas"), {"train": 1, "test": 3})


@pytest.mark.parametrize(
    ("make_bad", "message"),
    [
        (_empty, r"has no images: expected \[train\|val\|test/\]<class>"),
        (_no_images, "has no images"),
        (_images_without_class, "has no images in folders of their classes"),
        (_one_class, "one class.*Quik.*at least 2"),
        (_one_class_in_splits, "one class.*Quik.*at least 2"),
        (_test_only_class, "test has classes that train/ has no images of: Atlas"),
        (_val_only_class, "val has classes that train/ has no images of: Atlas"),
        (_two_val_splits, "/val and .*/valid are both a val split"),
        (_test_without_train, "has test/ but no train/"),
        (_empty_test, "test has no images"),
        (_empty_val, "val has no images"),
        (_two_images_of_a_class, "at least 3 images.*Atlas has 2"),
        (_one_training_image_of_a_class, "at least 2 images.*Atlas has 1"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, make_image_folder: Make, make_bad: Callable[[Path, Make], None], message: str
) -> None:
    make_bad(tmp_path, make_image_folder)
    with pytest.raises(DataError, match=message) as caught:
        load_classes(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path, 2, 5)
    try:
        (tmp_path / "class0/0000.jpg").rename(tmp_path / os.fsdecode(b"class0/caf\xe9.jpg"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"must be UTF-8, got .*caf\\xe9\.jpg"):
        load(tmp_path)


def test_names_in_any_language_are_fine(tmp_path: Path, make_image_folder: Make) -> None:
    source = load(make_image_folder(tmp_path, ("پراید", "Škoda"), 5))
    assert source.classes == ("Škoda", "پراید")
    assert len(source.fingerprint()) == 64


def test_the_class_folder_is_found_under_single_folders(tmp_path: Path, make_image_folder: Make) -> None:
    inner = make_image_folder(tmp_path / "archive" / "Cars of Iran", 3, 1)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "archive" / "LICENSE.txt").write_text("CC0")
    assert find_class_folder(tmp_path) == inner


def test_the_class_folder_is_the_one_with_splits(tmp_path: Path, make_image_folder: Make) -> None:
    inner = make_image_folder(tmp_path / "archive", 2, {"train": 1})
    assert find_class_folder(tmp_path) == inner
    assert find_class_folder(inner) == inner


@pytest.mark.parametrize(
    "names", [("Training", "valid", "testing"), ("TRAIN", "validation", "Test"), ("train", "dev", "test")]
)
def test_splits_have_any_usual_name(tmp_path: Path, make_image_folder: Make, names: tuple[str, ...]) -> None:
    make_image_folder(tmp_path, 2, dict(zip(names, (6, 3, 2), strict=True)))
    source = load(tmp_path)
    assert [len(source.records[split]) for split in SPLITS] == [12, 6, 4]
    assert source.notes == ()


@pytest.mark.parametrize(
    ("given", "sizes", "note"),
    [
        ({"train": 20, "val": 4}, (34, 8, 6), "has no test split: out of its 40 images are taken, .* 6 for test"),
        ({"train": 20}, (28, 6, 6), r"no val and no test split: .* 6 for test \(15%, sealed\) and 6 for val \(15%\)"),
        ({"train": 20, "test": 4}, (32, 8, 8), r"no val split: .* 8 for val \(20%\)"),
    ],
)
def test_what_is_missing_is_carved_out_of_train_and_said(
    tmp_path: Path, make_image_folder: Make, given: dict[str, int], sizes: tuple[int, ...], note: str
) -> None:
    make_image_folder(tmp_path, 2, given)
    source = load(tmp_path)
    assert tuple(len(source.records[split]) for split in SPLITS) == sizes
    assert re.search(note, source.notes[0])
    check_whole(source, tmp_path)
    assert load(tmp_path).fingerprint() == source.fingerprint()


def test_classes_may_be_called_as_splits_are(tmp_path: Path, make_image_folder: Make) -> None:
    assert load(make_image_folder(tmp_path, ("train", "bus", "test"), 5)).classes == ("bus", "test", "train")


def test_images_beside_classes_and_splits_are_told(tmp_path: Path, make_image_folder: Make) -> None:
    make_image_folder(tmp_path, 2, {"train": 5, "val": 3, "test": 3, "more": 3})
    (tmp_path / "train/class0/0000.jpg").rename(tmp_path / "train/loose.jpg")
    loose, beside = load(tmp_path).notes
    assert "1 image outside the folders of classes" in loose
    assert "images beside its splits, in more" in beside


@pytest.mark.parametrize(("splits", "sizes"), [(20, (14, 3, 3)), ({"train": 20, "test": 4}, (16, 4, 4))])
def test_images_without_classes_are_unlabelled(
    tmp_path: Path, make_image_folder: Make, splits: int | dict[str, int], sizes: tuple[int, ...]
) -> None:
    source = load(make_image_folder(tmp_path, ("",), splits))
    assert source.classes == ("unlabelled",)
    assert tuple(len(source.records[split]) for split in SPLITS) == sizes
    assert "classification needs at least 2" in source.no_classes
