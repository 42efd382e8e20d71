"""Decoded images on the training device: only where they fit, and then every batch is the one from the disk."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from raysweep.config import AugmentationConfig, DataConfig
from raysweep.data import placement
from raysweep.data.batches import Batch, Worker, build_batch, iterate_evaluation, iterate_ingredients
from raysweep.data.images import PreparedData
from raysweep.data.placement import DeviceImages, Images, fits, place

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture
def data(save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any], tmp_path: Any) -> PreparedData:
    data = save_prepared(tmp_path / "set", {"train": draw_squares(37, 1), "val": draw_squares(9, 2)}, list("abcd"))
    rows = np.random.default_rng(0).permutation(37)  # as where some files could not be decoded
    np.save(data.folder / "train" / "rows.npy", rows)
    return data


@pytest.mark.parametrize(
    ("size_bytes", "free_bytes", "num_sharing", "expected"),
    [
        pytest.param(20 * GIB, 80 * GIB, 1, True, id="a quarter"),
        pytest.param(20 * GIB + 1, 80 * GIB, 1, False, id="more"),
        pytest.param(20 * GIB, 80 * GIB, 2, False, id="a quarter, but two share it"),
        pytest.param(2 * GIB, 80 * GIB, 8, True, id="an eighth of 20 is 2.5"),
        pytest.param(47_040_000, 8 * GIB, 16, True, id="Fashion-MNIST, 16 trials on a small card"),
        pytest.param(1, 0, 1, False, id="no room"),
    ],
)
def test_images_lie_on_the_device_where_they_fit(
    size_bytes: int, free_bytes: int, num_sharing: int, expected: bool
) -> None:
    assert fits(size_bytes, free_bytes, num_sharing) is expected


def test_on_a_cpu_they_stay_on_the_disk(data: PreparedData) -> None:
    splits = (data.train, data.val)
    assert place(splits, CPU, 1) is splits


def train(images: Images, config: DataConfig, worker: Worker) -> list[Batch]:
    steps = iterate_ingredients(images, config, batch_size=8, seed=3, epoch=2, worker=worker)
    return [build_batch(step, images, config) for step in steps]


def same(left: Batch, right: Batch) -> bool:
    tensors = [(left.images, right.images), (left.labels, right.labels)]
    if left.mixing is not None and right.mixing is not None:
        tensors += [(left.mixing.labels, right.mixing.labels), (left.mixing.shares, right.mixing.shares)]
    equal = all(torch.equal(one, other) for one, other in tensors)
    kinds = (left.mixing is None) == (right.mixing is None) and left.weight == right.weight
    return equal and kinds and np.array_equal(left.indices, right.indices)


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("options", [{}, {"strength": 0.7, "random_erasing": 1.0}, {"strength": 1.0, "mixup": 1.0}])
def test_batches_are_those_from_the_disk(
    options: dict[str, float], num_workers: int, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "BLOCK_BYTES", 10 * 28 * 28)  # moved in several blocks
    config = DataConfig(
        image_size=28, channels=1, normalization="symmetric", augmentation=AugmentationConfig(**options)
    )

    def train_as(images: Images, rank: int) -> list[Batch]:
        return train(images, config, Worker(rank=rank, num_workers=num_workers))

    def evaluate(images: Images) -> list[Batch]:
        return list(iterate_evaluation(images, config, batch_size=4, worker=Worker()))

    on_device = DeviceImages(data.train, CPU)
    assert len(on_device) == 37
    for rank in range(num_workers):
        pairs = list(zip(train_as(data.train, rank), train_as(on_device, rank), strict=True))
        assert len(pairs) == 5 - (num_workers == 3)
        assert all(same(*pair) for pair in pairs)
    assert all(same(*pair) for pair in zip(evaluate(data.train), evaluate(on_device), strict=True))


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_on_the_cpu(data: PreparedData) -> None:
    gpu, config = torch.device("cuda"), DataConfig(image_size=28, channels=1, normalization="unit")
    for images in (data.train, DeviceImages(data.train, gpu)):
        pairs = zip(
            train(data.train, config, Worker()),
            train(images, config, Worker(device=gpu)),
            strict=True,
        )
        assert all(torch.equal(one.images, other.images.cpu()) for one, other in pairs)
