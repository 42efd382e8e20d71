"""The command data: what a folder holds is counted, what spoils a search is told, and the test split is not drawn."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from raysweep.commands.data import data
from raysweep.data.description import describe_choice, describe_classes, describe_images, describe_survey
from raysweep.data.records import SPLITS, Records, Source
from raysweep.data.sources.image_folder import load_folder
from raysweep.data.survey import sample_train, survey

Make = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, make_image_folder: Make) -> Path:
    """Two classes in three splits, with all that may be wrong."""
    folder = make_image_folder(tmp_path / "cars", 2, {"train": 30, "val": 4, "test": 4})
    image = Image.open(folder / "train/class0/0001.jpg")
    image.save(folder / "train/class0/0001.webp", lossless=True)  # in train again
    image.convert("L").save(folder / "test/class0/grey.png")  # a grey one, also in test
    (folder / "train/class1/0002.jpg").write_bytes(b"no image")
    (folder / "train/class1/0003.heic").write_bytes(b"x")
    return folder


def load(folder: Path) -> Source:
    return load_folder(folder, name="cars", split_seed=0)


def test_all_is_counted(folder: Path) -> None:
    source = load(folder)
    seen = survey(source)
    assert seen.formats == {"JPEG": 75, "WebP": 1, "PNG": 1}
    assert seen.num_grey == 1
    assert np.unique(seen.sides, axis=0).tolist() == [[40, 30]]
    text = describe_survey(source, seen)
    for line in (
        "cars: 78 images, 2 classes",
        "class0         31        4        5",
        "sizes    40 x 30 pixels (median), from 40 x 30 to 40 x 30",
        "formats  JPEG 75, WebP 1, PNG 1",
        "broken   1",
        "class1/0002.jpg: not a JPEG, PNG",
        "1 file of other formats: .heic 1",
        "of train are in test too",
    ):
        assert line in text


def test_the_command_writes_lines_or_json_and_a_sheet(folder: Path, tmp_path: Path) -> None:
    arguments = [str(folder), "--storage", str(tmp_path / "results"), "--sheet", str(tmp_path / "sheet.png")]
    lines = CliRunner().invoke(data, arguments)
    assert lines.exit_code == 0
    assert "78 images, 2 classes" in lines.stdout
    values = json.loads(CliRunner().invoke(data, [*arguments, "--json"]).stdout)
    assert values["classes"]["train"] == {"class0": 31, "class1": 30}
    assert len(values["same"]) == 1
    assert any(".heic 1" in note for note in values["notes"])
    drawn = values["contact_sheet"]
    assert {name: len(files) for name, files in drawn.items()} == {"class0": 12, "class1": 12}
    assert all("/class1/" in name and Path(name).is_file() for name in drawn["class1"])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 100


def test_idx_files_are_surveyed(tmp_path: Path, make_idx_folder: Make) -> None:
    folder = make_idx_folder(tmp_path / "bars", 100, 20)
    result = CliRunner().invoke(data, [str(folder), "--sheet", str(tmp_path / "sheet.png")])
    assert "formats  idx 120" in result.stdout
    assert "28 x 28" in result.stdout


def make_source(*counts: int) -> Source:
    labels = np.repeat(np.arange(len(counts)), counts)
    records = Records(paths=["/x"] * len(labels), members=np.arange(len(labels)), labels=labels)
    classes = tuple(f"class{label}" for label in range(len(counts)))
    return Source(name="x", classes=classes, records=dict.fromkeys(SPLITS, records))


@pytest.mark.parametrize(
    ("counts", "notes"),
    [
        ((100, 90), []),
        ((100, 19), ["under 20 training images have class1 19"]),
        ((300, 30), ["classes are uneven: class0 has 300 training images, class1 30"]),
        ((300, 0), ["under 20 training images have class1 0", "classes are uneven"]),
    ],
)
def test_rare_and_uneven_classes_are_told(counts: tuple[int, ...], notes: list[str]) -> None:
    found = list(describe_classes(make_source(*counts)))
    assert len(found) == len(notes)
    assert all(text.startswith(note) for text, note in zip(found, notes, strict=True))


def test_grey_and_tiny_images_are_told(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", 2, 12)
    seen = sample_train(load(folder), 10)
    assert len(seen.seen) == 10
    assert list(describe_images(seen, 32)) == []
    assert "10 of 10 images looked at are tiny for data.image_size=224" in next(describe_images(seen, 224))
    for path in folder.rglob("*.jpg"):
        Image.open(path).convert("L").save(path)
    seen = sample_train(load(folder), 10)
    assert "all 10 images looked at are grey" in next(describe_images(seen, 32))
    assert list(describe_images(seen, 32, channels=1)) == []


@pytest.mark.parametrize(("num_val", "said"), [(51, "up to 0.14"), (200, None), (0, None)])
def test_it_is_told_that_chance_chooses_by_few_images(num_val: int, said: str | None) -> None:
    records = make_source(100, 100).records["train"]
    source = Source(name="x", classes=("a", "b"), records={"val": records.take(np.arange(num_val))})
    found = list(describe_choice(source))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]
