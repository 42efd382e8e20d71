"""Which judge a data set gets: the shipped one for MNIST, else one trained once, whoever asks first."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from raysweep.data.idx import find_idx_file, load_idx
from raysweep.data.images import PreparedData
from raysweep.tasks.gan.judge.metrics import neighbourhood_scores
from raysweep.tasks.gan.judge.network import judge_batches, load_judge
from raysweep.tasks.gan.judge.store import SHIPPED, ensure_judge
from raysweep.tasks.gan.judge.training import measure_accuracy, unit_images
from raysweep.tasks.gan.scores import frechet_distance

MAX_BYTES = 500_000


def load_mnist(data_root: Path, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    folder = data_root / name
    images_file, labels_file = (find_idx_file(folder, f"t10k-{part}-ubyte") for part in ("images-idx3", "labels-idx1"))
    if images_file is None or labels_file is None:
        pytest.skip(f"no {name} in {data_root}")
    images, labels = load_idx(images_file), load_idx(labels_file)
    return np.array(images[..., None]), labels.astype(np.int64)


def test_the_shipped_judge_is_small_and_has_its_digest() -> None:
    judge, facts = load_judge(SHIPPED)
    assert SHIPPED.stat().st_size < MAX_BYTES
    assert len(facts["digest"]) == 64
    assert judge.settings == {"num_classes": 10, "channels": 1, "image_size": 28}


def test_the_shipped_judge_recognises_mnist(data_root: Path) -> None:
    judge, facts = load_judge(SHIPPED)
    accuracy = measure_accuracy(judge, *load_mnist(data_root, "mnist"))
    assert accuracy >= 0.994
    assert accuracy == pytest.approx(facts["test_accuracy"], abs=2e-4)


def judge_changed(data_root: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> tuple[float, float, float]:
    """Accuracy on 2,000 changed images, and their Frechet distance and coverage against 2,000 others."""
    judge, _ = load_judge(SHIPPED)
    images, labels = load_mnist(data_root, "mnist")
    pixels = unit_images(images[:4000], torch.device("cpu"))
    real, _ = judge_batches(judge, pixels[2000:].split(500))
    features, logits = judge_batches(judge, change(pixels[:2000]).split(500))
    accuracy = float((logits.argmax(dim=1).numpy() == labels[:2000]).mean())
    return accuracy, frechet_distance(real, features), neighbourhood_scores(real, features)["coverage"]


def test_noise_worsens_the_scores_step_by_step_before_digits_are_unreadable(data_root: Path) -> None:
    def speckle(std: float) -> Callable[[torch.Tensor], torch.Tensor]:
        noise = torch.randn(2000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        return lambda images: (images + std * noise).clamp(0, 1)

    found = [judge_changed(data_root, speckle(std)) for std in (0.0, 0.1, 0.2, 0.3)]
    accuracies, distances, coverages = zip(*found, strict=True)
    assert min(accuracies[:3]) >= 0.98
    assert list(distances) == sorted(distances)
    assert distances[2] > 3 * distances[0]
    assert list(coverages) == sorted(coverages, reverse=True)


def test_blur_and_a_missing_digit_worsen_the_frechet_distance(data_root: Path) -> None:
    _, clean, _ = judge_changed(data_root, lambda images: images)
    _, blurred, _ = judge_changed(data_root, lambda images: torch.nn.functional.avg_pool2d(images, 3, 1, 1))
    judge, _ = load_judge(SHIPPED)

    def without_sevens(images: torch.Tensor) -> torch.Tensor:
        _, logits = judge_batches(judge, images.split(500))
        return images[logits.argmax(dim=1) != 7]

    real = unit_images(load_mnist(data_root, "mnist")[0][:4000], torch.device("cpu"))
    features, _ = judge_batches(judge, without_sevens(real[:2000]).split(500))
    missing = frechet_distance(judge_batches(judge, real[2000:].split(500))[0], features)
    assert blurred > 3 * clean
    assert missing > 3 * clean


def test_mnist_gets_the_shipped_judge(data_root: Path, save_data: Callable[..., PreparedData]) -> None:
    images, labels = load_mnist(data_root, "mnist")
    data = save_data((images[:50], labels[:50]), (images[50:1050], labels[50:1050]), 10)
    _, facts = load_judge(ensure_judge(data))
    assert facts["digest"] == load_judge(SHIPPED)[1]["digest"]
    assert facts["accuracy"] >= 0.98
    assert "shipped" in facts["source"]


def test_other_images_of_the_same_shape_get_their_own(data_root: Path, save_data: Callable[..., PreparedData]) -> None:
    images, labels = load_mnist(data_root, "fashion-mnist")
    data = save_data((images[:100], labels[:100]), (images[100:300], labels[100:300]), 10)
    _, facts = load_judge(ensure_judge(data))
    assert facts["digest"] != load_judge(SHIPPED)[1]["digest"]
    assert "trained on drawn" in facts["source"]


def test_a_trained_judge_recognises_its_classes_and_is_kept(
    make_bars: Callable[..., Any], save_data: Callable[..., PreparedData]
) -> None:
    data = save_data(make_bars(90, channels=3), make_bars(45, channels=3, seed=1), 3)
    path = ensure_judge(data)
    assert path == data.folder / "judge.safetensors"
    judge, facts = load_judge(path)
    assert facts["accuracy"] == measure_accuracy(judge, *make_bars(45, channels=3, seed=1)) >= 0.9
    before = path.stat().st_mtime_ns
    assert ensure_judge(data) == path
    assert path.stat().st_mtime_ns == before


def ensure_and_report(folder: Path, start: Any, queue: Any) -> None:
    start.wait()
    path = ensure_judge(PreparedData.load(folder))
    queue.put((path.stat().st_ino, load_judge(path)[1]["digest"]))


def test_two_processes_at_once_get_the_same_file(
    make_bars: Callable[..., Any], save_data: Callable[..., PreparedData]
) -> None:
    data = save_data(make_bars(45), make_bars(15, seed=1), 3)
    context = multiprocessing.get_context("spawn")
    start, queue = context.Barrier(2), context.Queue()
    processes = [context.Process(target=ensure_and_report, args=(data.folder, start, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert found[0] == found[1]
    assert not [
        path for path in data.folder.iterdir() if path.name.startswith(".judge.safetensors.") and path.suffix != ".lock"
    ]
