"""Tables of labels: rows become images with class and split; a table that cannot be meant is refused by its row."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from raysweep.data.records import SPLITS, Source
from raysweep.data.sources import load_source
from raysweep.errors import DataError

Make = Callable[..., Path]


def load(path: Path) -> Source:
    return load_source(str(path), split_seed=0, storage=path.parent.parent / "results")


@pytest.fixture
def folder(tmp_path: Path, make_image_folder: Make) -> Path:
    return make_image_folder(tmp_path / "cars", ("",), 20)


def write(folder: Path, suffix: str = ".csv", /, **columns: list[str]) -> Path:
    path = folder / f"labels{suffix}"
    table = pd.DataFrame(columns)
    if suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    return path


def names(numbers: range) -> list[str]:
    return [f"{number:04d}.jpg" for number in numbers]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_gives_classes_and_the_rest_is_carved_out(folder: Path, suffix: str) -> None:
    path = write(folder, suffix, path=names(range(20)), label=["01", "NA"] * 10)
    for place in (folder, path):
        source = load(place)
        assert source.classes == ("01", "NA")  # text, no numbers and no gaps
        assert [len(source.records[split]) for split in SPLITS] == [14, 2, 4]
        assert not source.no_classes


def test_a_table_gives_splits(folder: Path) -> None:
    splits = ["Training"] * 12 + ["valid"] * 4 + ["test"] * 4
    write(folder, file_name=names(range(20)), Label=["a", "b"] * 10, split=splits)
    source = load(folder)
    assert [len(source.records[split]) for split in SPLITS] == [12, 4, 4]
    assert Path(source.records["val"].paths[0]).name == "0012.jpg"


def test_a_table_without_labels_is_unlabelled(folder: Path) -> None:
    write(folder, path=names(range(20)))
    assert load(folder).classes == ("unlabelled",)
    assert "no column label: classification needs at least 2" in load(folder).no_classes


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": names(range(2))}, "must have the columns path, label .* got picture"),
        ({"path": ["0000.jpg", "9999.jpg"], "label": ["a", "b"]}, r"1 of 2 files that are not there, as '9999\.jpg'"),
        ({"path": ["0000.jpg", "../0001.jpg"], "label": ["a", "b"]}, "must lead to a file in its folder, 1 do not"),
        ({"path": ["0000.jpg", "/etc/passwd"], "label": ["a", "b"]}, "must lead to a file in its folder, 1 do not"),
        ({"path": ["0000.jpg", "./0000.jpg"], "label": ["a", "b"]}, r"each file once, .*0000\.jpg comes 2 times"),
        ({"path": names(range(2)), "label": ["a", ""]}, "must have a label in each row, 1 of 2 have none"),
        (
            {"path": names(range(2)), "label": ["a", "b"], "split": ["train", "holdout"]},
            "must be one of train.*'holdout'",
        ),
        ({"path": names(range(2)), "label": ["a", "b"], "split": ["test", "val"]}, "no image of the train split"),
        ({"path": names(range(2)), "label": ["a", "b"], "split": ["train", "test"]}, "no image of train has: b"),
        ({"path": names(range(3)), "label": ["a", "a", "b"]}, "at least 3 images, a has 2"),
        ({"path": []}, "lists no images"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(folder: Path, columns: dict[str, list[str]], message: str) -> None:
    path = write(folder, **columns)
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert str(path) in str(caught.value)


def test_two_tables_are_refused(folder: Path) -> None:
    for suffix in (".csv", ".tsv"):
        write(folder, suffix, path=names(range(20)))
    with pytest.raises(DataError, match="must have one of"):
        load(folder)
