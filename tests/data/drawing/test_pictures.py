"""The synthetic sample: reproducible, marked as drawn, whole or absent, neither trivial nor unlearnable."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raysweep.data.drawing import pictures
from raysweep.data.drawing.pictures import CLASSES, MARK, SIZE_PX, draw_car, draw_sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("storage") / "cars"
    draw_sample(path, images_per_class=2)
    return path


def test_there_are_thirteen_sorted_classes() -> None:
    assert len(set(CLASSES)) == 13
    assert list(CLASSES) == sorted(CLASSES)


@pytest.mark.parametrize("model", CLASSES)
def test_a_picture_is_decided_by_model_and_seed(model: str) -> None:
    first, again, other = draw_car(model, 7), draw_car(model, 7), draw_car(model, 8)
    assert (first.size, first.mode) == (SIZE_PX, "RGB")
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_classes_differ_at_the_same_seed() -> None:
    assert len({draw_car(model, 0).tobytes() for model in CLASSES}) == 13


@pytest.mark.parametrize(
    ("model", "seed", "message"),
    [("Peugeot 208", 0, "must be one of Mazda 2000, .*got 'Peugeot 208'"), ("Quik", -1, "0 or more; got -1")],
)
def test_unknown_models_and_negative_seeds_are_refused(model: str, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_car(model, seed)


@pytest.mark.parametrize(
    ("seed", "images_per_class", "message"),
    [(0, 0, "images_per_class"), (0, 10_001, "images_per_class"), (-1, 1, "seed")],
)
def test_impossible_data_sets_are_refused(tmp_path: Path, seed: int, images_per_class: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_sample(tmp_path / "cars", seed=seed, images_per_class=images_per_class)
    assert not list(tmp_path.iterdir())


def test_every_class_has_its_folder_of_jpegs(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == list(CLASSES)
    for model in CLASSES:
        assert sorted(path.name for path in (folder / model).iterdir()) == ["0000.jpg", "0001.jpg"]


def test_every_file_says_that_it_is_synthetic(folder: Path) -> None:
    assert "synthetic: drawn by raysweep, not a photograph" in (folder / "SYNTHETIC.txt").read_text("utf-8")
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as picture:
            assert (picture.format, picture.size, picture.mode) == ("JPEG", SIZE_PX, "RGB")
            assert picture.info["comment"] == MARK.encode()
            assert picture.getexif()[0x010E] == MARK


def test_the_same_seed_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    draw_sample(tmp_path / "same", images_per_class=1)
    draw_sample(tmp_path / "other", seed=1, images_per_class=1)
    for model in CLASSES:
        written = (folder / model / "0000.jpg").read_bytes()
        assert (tmp_path / "same" / model / "0000.jpg").read_bytes() == written
        assert (tmp_path / "other" / model / "0000.jpg").read_bytes() != written


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    draw_sample(tmp_path, images_per_class=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(model: str, seed: int) -> Image.Image:
        if model == "Quik":
            raise KeyboardInterrupt
        return draw_car(model, seed)

    monkeypatch.setattr(pictures, "draw_car", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw_sample(tmp_path / "cars", images_per_class=1)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    (tmp_path / ".cars.partial-0123" / "Quik").mkdir(parents=True)
    draw_sample(tmp_path / "cars", images_per_class=1)
    assert len(list((tmp_path / "cars").rglob("*.jpg"))) == 13


def test_pixels_alone_carry_some_signal_but_not_the_answer() -> None:
    pictures = [
        np.asarray(draw_car(model, seed).resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float32)
        for model in CLASSES
        for seed in range(60)
    ]
    pixels, labels = np.stack(pictures).reshape(len(pictures), -1), np.repeat(np.arange(13), 60)
    train_x, test_x, train_y, test_y = train_test_split(pixels, labels, test_size=0.3, stratify=labels, random_state=0)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    accuracy = classifier.fit(train_x, train_y).score(test_x, test_y)
    assert 2 / 13 < accuracy < 0.6
