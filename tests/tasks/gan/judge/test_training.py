"""Training a judge: it learns, the seed decides everything, augmentation moves images a little and each differently."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from raysweep.tasks.gan.judge.network import load_judge
from raysweep.tasks.gan.judge.training import augment, measure_accuracy, train_judge

Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def test_a_trained_judge_recognises_other_images(make_bars: Callable[..., Labelled]) -> None:
    judge = train_judge(*make_bars(120), 3, epochs=25)
    assert measure_accuracy(judge, *make_bars(60, seed=1)) >= 0.9
    assert not judge.training


def test_the_seed_decides_the_weights_and_the_process_keeps_its_random_state(
    make_bars: Callable[..., Labelled],
) -> None:
    images, labels = make_bars(30)
    torch.manual_seed(5)
    first = train_judge(images, labels, 3, epochs=2, seed=1).state_dict()
    after = torch.rand(3)
    again = train_judge(images, labels, 3, epochs=2, seed=1).state_dict()
    other = train_judge(images, labels, 3, epochs=2, seed=2).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["classes.weight"], other["classes.weight"])
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), after)


def test_augmentation_moves_each_image_a_little_and_differently() -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 28, 28)
    image[..., 11:17, 11:17] = 1
    moved = augment(image.expand(64, -1, -1, -1))
    assert moved.shape == (64, 1, 28, 28)
    assert 0 <= moved.min() <= moved.max() <= 1
    places = torch.arange(28.0)
    centre = (moved.sum(dim=2) * places).sum(dim=-1) / moved.sum(dim=(2, 3))
    assert (centre - 13.5).abs().max() < 4
    assert centre.std() > 0.5
    assert len({tuple(one.flatten().tolist()) for one in moved}) == 64


def test_accuracy_is_the_share_of_images_recognised(make_bars: Callable[..., Labelled]) -> None:
    images, labels = make_bars(90)
    judge = train_judge(images, labels, 3, epochs=25)
    accuracy = measure_accuracy(judge, images, labels)
    assert measure_accuracy(judge, images, (labels + 1) % 3) <= 1 - accuracy


def test_the_script_trains_on_idx_files_and_writes_a_judge(
    tmp_path: Path, make_idx_folder: Callable[..., Path]
) -> None:
    folder, out = make_idx_folder(tmp_path / "idx", 60, 20, side=18), tmp_path / "judge.safetensors"
    command = [sys.executable, "-m", "raysweep.tasks.gan.judge.training", str(folder), str(out), "--epochs", "2"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    judge, facts = load_judge(out)
    assert judge.settings == {"num_classes": 5, "channels": 1, "image_size": 18}
    assert facts["source"] == "60 training images, 2 epochs, seed 0"
    assert f"test accuracy {facts['test_accuracy']:.4f}" in output


def test_the_script_names_a_folder_without_idx_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raysweep.tasks.gan.judge.training", str(tmp_path), str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    assert "must have the idx files of train" in result.stderr


@pytest.mark.parametrize("num_images", [2, 300])
def test_sets_smaller_and_larger_than_a_batch(make_bars: Callable[..., Labelled], num_images: int) -> None:
    judge = train_judge(*make_bars(num_images, num_classes=2), 2, epochs=1)
    assert all(np.isfinite(value.numpy()).all() for value in judge.state_dict().values())
