"""Figures as PNG files: whole, not blank, nothing cut off at the edge, and no temporary file left behind."""

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysweep.config import Objective
from raysweep.errors import StorageError
from raysweep.evaluate.figures.classification import save_confusion_matrix, save_predictions
from raysweep.evaluate.figures.curves import _best_row, save_curves
from raysweep.evaluate.figures.pareto import save_pareto_front

# A layout that fails, a glyph that is missing or a division by zero shows up as a warning.
pytestmark = pytest.mark.filterwarnings("error")

CARS = [
    "Peugeot 206", "Peugeot 405", "Peugeot Pars", "Nissan Zamiad", "Pride 111", "Pride 131", "Samand",
    "Tiba 2", "Quik", "Mazda 2000", "Renault L90", "Dena Plus", "Kia Cerato",
]  # fmt: skip
GREEN, VERMILION = (0x00, 0x7A, 0x5A), (0xC2, 0x4A, 0x00)
NOTE = "synthetic data: drawn by raysweep"


def read_figure(path: Path) -> NDArray[np.uint8]:
    """Return the (H, W, 3) uint8 pixels of a PNG that is alone in its folder and has a clear margin."""
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) >= 200
    assert max(pixels.shape[:2]) <= 4000
    inner = np.zeros(pixels.shape[:2], bool)
    inner[10:-10, 10:-10] = True
    assert (pixels[~inner] == 255).all(), "something is cut off at the edge"
    assert (pixels < 128).any(), "the figure is blank"
    return pixels


def count_pixels(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((pixels == np.array(colour)).all(axis=-1).sum())


def diagonal(num_classes: int) -> NDArray[np.int64]:
    """Return the (C, C) int64 confusion matrix of a good model."""
    rng = np.random.default_rng(0)
    return rng.poisson(0.2, (num_classes, num_classes)) + 20 * np.eye(num_classes, dtype=np.int64)


def history(num_epochs: int, pace: float = 3.0) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "train/loss": 2 * math.exp(-epoch / pace),
            "val/loss": 2 * math.exp(-epoch / pace) + 0.01 * epoch,
            "val/accuracy": 0.9 - 0.8 * math.exp(-epoch / pace),
        }
        for epoch in range(1, num_epochs + 1)
    ]


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "dog"],
        list("0123456789"),
        CARS,
        [f"$class {i} of a_data {{set}} whose names are long" for i in range(26)],
        [f"class {i}" for i in range(100)],
    ],
    ids=len,
)
def test_confusion_matrix_of_any_size(tmp_path: Path, classes: list[str]) -> None:
    path = tmp_path / "confusion.png"
    save_confusion_matrix(path, diagonal(len(classes)), classes, title="Confusion matrix", note=NOTE)
    pixels = read_figure(path)
    dark_blue = (pixels[..., 2] > 90) & (pixels[..., 0] < 30)
    assert dark_blue.mean() > 0.15 / len(classes), "the diagonal does not stand out"


def test_confusion_matrix_grows_with_the_classes(tmp_path: Path) -> None:
    sides = []
    for num_classes in (2, 5, 13):
        path = tmp_path / str(num_classes) / "confusion.png"
        save_confusion_matrix(path, diagonal(num_classes), [str(i) for i in range(num_classes)], title="t")
        sides.append(read_figure(path).shape[0])
    assert sides == sorted(set(sides))


def test_class_without_images_is_grey_and_not_zero(tmp_path: Path) -> None:
    matrix = diagonal(13)
    matrix[4] = 0
    path = tmp_path / "confusion.png"
    save_confusion_matrix(path, matrix, CARS, title="Confusion matrix")
    assert count_pixels(read_figure(path), (0xDD, 0xDD, 0xDD)) > 10_000


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((13, 12), np.int64), r"\(C, C\) with C >= 2, got shape \(13, 12\)"),
        (np.zeros((12, 12), np.int64), "got 12 rows and 13 class names"),
        (np.zeros((13, 13)), "integer counts, got dtype float64"),
    ],
)
def test_wrong_matrix_is_refused_and_nothing_written(tmp_path: Path, matrix: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_confusion_matrix(tmp_path / "confusion.png", matrix, CARS, title="Confusion matrix")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(16, 28, 28, 1), (16, 64, 64, 3), (1, 8, 8, 3), (6, 40, 100, 3), (5, 90, 30, 1)])
def test_predictions_of_any_shape(tmp_path: Path, shape: tuple[int, int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    names = [CARS[i % 13] for i in range(shape[0])]
    path = tmp_path / "predictions.png"
    save_predictions(path, images, names, names, [0.87] * len(names), title="Predictions", note=NOTE)
    pixels = read_figure(path)
    assert count_pixels(pixels, GREEN) > 500
    assert count_pixels(pixels, VERMILION) < 50


def test_wrong_predictions_stand_out_from_right_ones(tmp_path: Path) -> None:
    images = np.zeros((4, 28, 28, 1), np.uint8)
    path = tmp_path / "predictions.png"
    save_predictions(path, images, list("abcd"), list("dcba"), [0.5, 1.0, 0.0, 0.3], title="Predictions")
    pixels = read_figure(path)
    assert count_pixels(pixels, VERMILION) > 500
    assert count_pixels(pixels, GREEN) < 50


def test_grey_images_keep_their_range(tmp_path: Path) -> None:
    """A flat image is shown at its own grey, not stretched to black or white."""
    images = np.full((1, 28, 28, 1), 90, np.uint8)
    path = tmp_path / "predictions.png"
    save_predictions(path, images, ["a"], ["a"], [0.5], title="Predictions")
    assert count_pixels(read_figure(path), (90, 90, 90)) > 40_000


@pytest.mark.parametrize(
    ("images", "names", "confidence", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), ["a"] * 2, [0.5] * 2, r"\(N, H, W, C\).*got shape \(2, 8, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), ["a"] * 2, [0.5] * 2, "C 1 or 3"),
        (np.zeros((2, 8, 8, 3), np.float32), ["a"] * 2, [0.5] * 2, "dtype float32"),
        (np.zeros((0, 8, 8, 3), np.uint8), [], [], "no empty axis"),
        (np.zeros((17, 8, 8, 3), np.uint8), ["a"] * 17, [0.5] * 17, "up to 16 images, got 17"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["a"], [0.5] * 2, r"got \(1, 1, 2\) values for 2 images"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["a"] * 2, [0.5, 87], r"confidence must lie in \[0, 1\].*87"),
        (np.zeros((1, 8, 8, 3), np.uint8), ["a"], [math.nan], r"got \[nan\]"),
    ],
)
def test_wrong_predictions_are_refused(
    tmp_path: Path, images: NDArray[np.uint8], names: list[str], confidence: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_predictions(tmp_path / "p.png", images, names, names, confidence, title="Predictions")
    assert list(tmp_path.iterdir()) == []


DIVERGED = [{"epoch": 1, "train/loss": math.inf, "val/loss": math.nan, "val/accuracy": math.nan}]


@pytest.mark.parametrize(
    "histories",
    [
        {"best (trial 7)": history(20), "baseline (trial 0)": history(12, 5)},
        {"best (trial 7)": history(1), "baseline (trial 0)": history(1, 5)},
        {"best (trial 0)": history(5), "baseline (trial 0)": history(5)},
        {"best (trial $7)": history(100)},
        {"best (trial 7)": history(3), "baseline (trial 0)": DIVERGED},
        {"best (trial 0)": DIVERGED, "baseline (trial 0)": DIVERGED},
        {f"trial {i}": history(4, i + 1) for i in range(7)},
    ],
    ids=["two", "one epoch", "same trial", "many epochs", "one diverged", "all diverged", "seven"],
)
def test_curves(tmp_path: Path, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    path = tmp_path / "curves.png"
    save_curves(path, histories, metrics=["val/accuracy"], title="Curves", note=NOTE)
    read_figure(path)


@pytest.mark.parametrize(
    ("values", "direction", "expected"),
    [
        ([0.1, 0.9, 0.5], "maximize", 2),
        ([0.1, 0.9, 0.5], "minimize", 1),
        ([0.5, math.nan, math.inf, 0.6], "maximize", 4),
        ([0.7, 0.7], "maximize", 1),
        ([math.nan], "maximize", None),
    ],
)
def test_best_epoch_is_the_first_best_finite_one(values: list[float], direction: str, expected: int | None) -> None:
    rows = [{"epoch": epoch, "val/f1": value} for epoch, value in enumerate(values, start=1)]
    best = _best_row([{"epoch": 0}, *rows], "val/f1", direction)
    assert (best and best["epoch"]) == expected


def test_the_same_trial_is_drawn_once(tmp_path: Path) -> None:
    rows = [*history(4), {"epoch": 5, "train/loss": math.nan}]
    copy = [dict(row) for row in rows]
    path = tmp_path / "curves.png"
    save_curves(path, {"best": rows, "baseline": copy}, metrics=["val/accuracy"], title="Curves")
    assert count_pixels(read_figure(path), (0xD5, 0x5E, 0x00)) == 0  # the colour of a second trial


def test_panels_wrap_and_losses_are_drawn_once(tmp_path: Path) -> None:
    shapes: list[tuple[int, ...]] = []
    for names in (["val/accuracy"], ["val/loss"], ["val/loss", "val/accuracy", "val/f1", "val/auroc"]):
        rows = [{**row, "val/f1": 0.5, "val/auroc": 0.5} for row in history(3)]
        path = tmp_path / str(len(shapes)) / "curves.png"
        save_curves(path, {"best": rows}, metrics=names, title="Curves", direction="minimize")
        shapes.append(read_figure(path).shape)
    (two_height, two_width, _), (_, one_width, _), (four_height, four_width, _) = shapes
    assert one_width < two_width < four_width
    assert four_height > 1.5 * two_height


@pytest.mark.parametrize(
    ("histories", "metrics", "message"),
    [
        ({}, ["val/accuracy"], "1 to 7 histories, got 0"),
        ({f"trial {i}": history(2) for i in range(8)}, ["val/accuracy"], "1 to 7 histories, got 8"),
        ({"best": []}, ["val/accuracy"], "at least 1 row.*'best'"),
        ({"best": [{"val/loss": 1.0}]}, ["val/loss"], 'each with "epoch"'),
        ({"best": history(2)}, [], "at least 1 metric, got none"),
        (
            {"best": history(2)},
            ["val/acc"],
            "got val/acc; those there are: train/loss, val/accuracy, val/loss",
        ),
        ({"best": [{"epoch": 1, "val/f1": 1.0}]}, ["val/f1"], "got train/loss or val/loss; .* val/f1"),
    ],
)
def test_wrong_histories_are_refused(
    tmp_path: Path, histories: dict[str, list[dict[str, float]]], metrics: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_curves(tmp_path / "curves.png", histories, metrics=metrics, title="Curves")
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    path.mkdir()
    with pytest.raises(StorageError, match=r"curves\.png must be a file that can be written"):
        save_curves(path, {"best": history(2)}, metrics=["val/accuracy"], title="Curves")
    assert list(tmp_path.iterdir()) == [path]


def test_a_figure_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"older")
    save_curves(path, {"best": history(2)}, metrics=["val/accuracy"], title="A long title " * 30, note=NOTE * 9)
    read_figure(path)


def test_pyplot_and_torch_are_not_imported() -> None:
    unwanted = "{'matplotlib.pyplot', 'torch', 'ray'}"
    modules = "raysweep.evaluate.figures.curves, raysweep.evaluate.figures.classification"
    code = f"import sys, {modules}; print({unwanted} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("first", ["maximize", "minimize"])
@pytest.mark.parametrize("second", ["maximize", "minimize"])
@pytest.mark.parametrize(
    ("trials", "front"),
    [
        ({0: (0.5, 400_000.0)}, [0]),
        ({0: (0.5, 4e5), 1: (0.6, 4e5), 2: (0.6, 4e5)}, [1, 2]),
        ({number: (1 - 2**-number, 10.0**number) for number in range(20)}, list(range(20))[::-1]),
        ({0: (0.9, 5.0), 1: (0.91, 6.0), 2: (0.1, 7.0), 3: (2.0, -8.0)}, [1, 0]),
    ],
    ids=["one", "equal", "many", "far"],
)
def test_pareto_front_of_any_shape(
    tmp_path: Path, trials: dict[int, tuple[float, float]], front: list[int], first: str, second: str
) -> None:
    path = tmp_path / "pareto_front.png"
    objectives = {
        "first": Objective(metric="val/accuracy", direction=first),  # type: ignore[arg-type]
        "second": Objective(metric="val/loss", direction=second),  # type: ignore[arg-type]
    }
    save_pareto_front(path, trials, front, **objectives, baseline=0, title="Pareto front", note=NOTE)
    pixels = read_figure(path)
    assert count_pixels(pixels, (0x00, 0x72, 0xB2)) > 50, "the front does not show"
    assert count_pixels(pixels, (0xD5, 0x5E, 0x00)) > 50, "the baseline does not show"


@pytest.mark.parametrize("front", [[], [7]])
def test_a_front_of_other_trials_is_refused(tmp_path: Path, front: list[int]) -> None:
    objective = Objective(metric="val/accuracy")
    with pytest.raises(ValueError, match=r"must be trials of \[0\], at least 1, got \[7?\]"):
        save_pareto_front(
            tmp_path / "x.png", {0: (1.0, 1.0)}, front, first=objective, second=objective, baseline=0, title="t"
        )
