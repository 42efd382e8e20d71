"""Data sets of Hugging Face: files are written out byte by byte, with the classes and splits that they have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep.data.records import SPLITS, Source
from raysweep.data.sources import load_source
from raysweep.errors import DataError

datasets: Any = pytest.importorskip("datasets")
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def load(spec: object, storage: Path) -> Source:
    return load_source(f"hf:{spec}", split_seed=0, storage=storage)


def make(folder: Path, images: Path, **more: Any) -> Any:
    """A data set of the files in a folder of classes, with their bytes in it."""
    paths = sorted(images.rglob("*.jpg"))
    names = sorted({path.parent.name for path in paths})
    columns = {"image": [{"bytes": path.read_bytes(), "path": None} for path in paths]}
    columns |= {"label": [names.index(path.parent.name) for path in paths]} | {
        key: values[0] for key, values in more.items()
    }
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    return datasets.Dataset.from_dict(
        columns, datasets.Features(kinds | {key: kind for key, (_, kind) in more.items()})
    )


def test_splits_classes_and_bytes_are_kept(tmp_path: Path, make_image_folder: Make) -> None:
    images = make_image_folder(tmp_path / "images", ("a", "c"), 6)
    rows = make(tmp_path, images)
    datasets.DatasetDict({"train": rows, "validation": rows.select([0, 6]), "extra": rows}).save_to_disk(
        tmp_path / "set"
    )
    source = load(tmp_path / "set", tmp_path)
    assert source.name == f"hf:{tmp_path}/set"
    assert source.classes == ("a", "c")
    assert [len(source.records[split]) for split in SPLITS] == [10, 2, 2]
    written = {Path(path).read_bytes() for split in SPLITS for path in source.records[split].paths}
    assert written == {path.read_bytes() for path in images.rglob("*.jpg")}
    assert load(tmp_path / "set", tmp_path).fingerprint() == source.fingerprint()


def test_a_folder_of_parquet_files(tmp_path: Path, make_image_folder: Make) -> None:
    rows = make(tmp_path, make_image_folder(tmp_path / "images", 2, 6))
    (tmp_path / "set").mkdir()
    rows.to_parquet(tmp_path / "set/train.parquet")
    assert load(tmp_path / "set", tmp_path).classes == ("class0", "class1")


def test_of_several_labels_one_is_named(tmp_path: Path, make_image_folder: Make) -> None:
    rows = make(
        tmp_path,
        make_image_folder(tmp_path / "images", 2, 6),
        coarse=([0, 1] * 6, datasets.ClassLabel(names=["x", "y"])),
    )
    rows.rename_column("label", "fine").save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match=r"labels in .*fine.*; give one, as hf:.*/set#"):
        load(tmp_path / "set", tmp_path)
    assert load(f"{tmp_path}/set#coarse", tmp_path).classes == ("x", "y")


@pytest.mark.parametrize(
    ("spec", "message"), [("nowhere/at-all", "cannot be had here"), ("SET#none", "a column of images and none")]
)
def test_what_cannot_be_had_is_refused(tmp_path: Path, make_image_folder: Make, spec: str, message: str) -> None:
    make(tmp_path, make_image_folder(tmp_path / "images", 2, 2)).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        load(spec.replace("SET", str(tmp_path / "set")), tmp_path)
