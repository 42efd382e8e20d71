"""Figures of generated images: every image is in its place, grey and RGB, and notes are drawn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from raysweep.evaluate.figures.images import save_class_bars, save_rows, save_samples, tile
from raysweep.tasks.gan.plots import save_losses, save_nearest, save_progress

# A layout that fails, a glyph that is missing or a division by zero shows up as a warning.
pytestmark = pytest.mark.filterwarnings("error")

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def plain(num: int, channels: int = 3, side: int = 8) -> npt.NDArray[np.uint8]:
    """Images of one colour each, the colours in turn."""
    images = np.array([COLOURS[index % 4] for index in range(num)], dtype=np.uint8)[:, None, None]
    return np.broadcast_to(images[..., :channels], (num, side, side, channels)).copy()


def read_figure(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def colours_in(path: Path) -> list[float]:
    """The share of each of the four colours among the pixels."""
    pixels = read_figure(path).reshape(-1, 3)
    return [float((pixels == colour).all(axis=1).mean()) for colour in COLOURS]


def test_a_grid_has_the_images_row_by_row() -> None:
    images = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), dtype=np.uint8)
    grid = tile(images)
    assert grid.shape == (6, 9, 1)
    assert grid[::2, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def draw_samples(path: Path, channels: int, note: str) -> None:
    save_samples(path, {"best": plain(16, channels), "baseline": plain(4, channels)}, title="t", note=note)


def draw_progress(path: Path, channels: int, note: str) -> None:
    grids = {epoch: tile(plain(4, channels)) for epoch in (1, 2, 5, 10, 20, 40)}
    save_progress(path, grids, title="t", note=note)


def draw_interpolations(path: Path, channels: int, note: str) -> None:
    images = plain(12, channels).reshape(3, 4, 8, 8, channels)
    save_rows(path, images, names=["a", "b", "c"], title="t", note=note)


def draw_nearest(path: Path, channels: int, note: str) -> None:
    nearest = plain(8, channels).reshape(4, 2, 8, 8, channels)
    groups = {"by pixels": (nearest, np.ones((4, 2))), "by features": (nearest, np.ones((4, 2)))}
    save_nearest(path, plain(4, channels), groups, title="t", note=note)


@pytest.mark.parametrize("draw", [draw_samples, draw_progress, draw_interpolations, draw_nearest])
def test_all_images_are_in_the_figure(draw: Callable[..., None], tmp_path: Path) -> None:
    draw(tmp_path / "figure.png", 3, "")
    shares = colours_in(tmp_path / "figure.png")
    assert min(shares) > 0.05
    assert max(shares) - min(shares) < 0.05


@pytest.mark.parametrize("draw", [draw_samples, draw_progress, draw_interpolations, draw_nearest])
def test_grey_images_and_notes(draw: Callable[..., None], tmp_path: Path) -> None:
    draw(tmp_path / "plain.png", 1, "")
    draw(tmp_path / "noted.png", 1, "the test split of this run has been opened 2 times")
    assert len(read_figure(tmp_path / "noted.png")) > len(read_figure(tmp_path / "plain.png"))


def history(num_epochs: int, loss: float) -> list[dict[str, float]]:
    return [
        {
            "epoch": float(epoch),
            "train/loss_generator": loss,
            "train/loss_discriminator": loss / 2,
            "val/frechet_distance": 9 / epoch,
        }
        for epoch in range(1, num_epochs + 1)
    ]


@pytest.mark.parametrize("num_epochs", [1, 100])
def test_losses_of_two_trials_and_equal_ones_once(num_epochs: int, tmp_path: Path) -> None:
    def height(name: str, histories: dict[str, list[dict[str, float]]]) -> int:
        save_losses(tmp_path / name, histories, floor=0.5, floor_label="real images", title="t")
        return len(read_figure(tmp_path / name))

    best, other = history(num_epochs, 1.0), history(num_epochs, 2.0)
    two = height("two.png", {"best": best, "baseline": other})
    assert height("same.png", {"best": best, "baseline": list(best)}) < two  # fewer lines in the legend


@pytest.mark.parametrize("num_classes", [2, 10, 40])
def test_histogram_of_few_and_of_many_classes(num_classes: int, tmp_path: Path) -> None:
    shares = np.full(num_classes, 1 / num_classes)
    classes = [f"a class with a long name, number {index}" for index in range(num_classes)]
    values = {"best": shares, "test images": shares}
    line = ("equal shares", 1 / num_classes)
    save_class_bars(tmp_path / "classes.png", values, classes, label="share", line=line, title="t")
    assert read_figure(tmp_path / "classes.png").shape[1] >= 60 * num_classes
