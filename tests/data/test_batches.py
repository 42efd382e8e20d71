"""Batches: dealt out exactly and once, the same for any number of workers, decided by (seed, epoch), normalised."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from raysweep.config import AugmentationConfig, DataConfig
from raysweep.data.batches import (
    STATISTICS,
    Batch,
    Worker,
    build_batch,
    count_steps,
    derive_seed,
    iterate_evaluation,
    iterate_ingredients,
    normalise_images,
)
from raysweep.data.images import ImageSet

MakeSet = Callable[..., ImageSet]
GREY = DataConfig(image_size=8, channels=1, normalization="unit")
SIZES = {"num_images": st.integers(1, 300), "batch_size": st.integers(1, 70), "num_workers": st.integers(1, 5)}


@pytest.fixture(scope="module")
def make_set(tmp_path_factory: pytest.TempPathFactory) -> MakeSet:
    """`(num_images, side=8, channels=1)`: noise whose first two pixels say which image it is; its label is n % 7."""

    @cache
    def make(num_images: int, side: int = 8, channels: int = 1) -> ImageSet:
        folder = tmp_path_factory.mktemp("set")
        shape = (num_images, side, side, channels)
        images = np.random.default_rng(num_images).integers(0, 256, shape, dtype=np.uint8)
        numbers = np.arange(num_images)
        images[:, 0, 0], images[:, 0, 1] = (numbers % 256)[:, None], (numbers // 256)[:, None]
        np.save(folder / "images.npy", images)
        np.save(folder / "rows.npy", numbers)
        np.save(folder / "labels.npy", numbers % 7)
        return ImageSet(folder)

    return make


def numbers_of(batch: Batch) -> list[int]:
    """Which images a batch holds."""
    low, high = (batch.images[:, 0, 0, :2] * 255).round().int().T
    numbers: list[int] = (low + 256 * high).tolist()
    return numbers


def train(
    images: ImageSet, config: DataConfig = GREY, rank: int = 0, num_workers: int = 1, **options: Any
) -> list[Batch]:
    options = {"batch_size": 16, "seed": 0, "epoch": 0} | options
    worker = Worker(rank=rank, num_workers=num_workers)
    return [build_batch(step, images, config) for step in iterate_ingredients(images, config, worker=worker, **options)]


def deal(images: ImageSet, num_workers: int, **options: Any) -> list[tuple[Batch, ...]]:
    """The batches of an epoch, step by step, one of each worker."""
    ranks = [train(images, rank=rank, num_workers=num_workers, **options) for rank in range(num_workers)]
    return list(zip(*ranks, strict=True))


def merge(step: tuple[Batch, ...]) -> list[int]:
    """A step's images in global order: rank r has every place r, r + W, r + 2W..."""
    dealt = [numbers_of(batch) for batch in step]
    return [dealt[place % len(step)][place // len(step)] for place in range(sum(map(len, dealt)))]


# Training


@settings(deadline=None, max_examples=100)
@given(**SIZES, seed=st.integers(0, 2**62))
def test_an_epoch_is_dealt_out_exactly(
    make_set: MakeSet, num_images: int, batch_size: int, num_workers: int, seed: int
) -> None:
    steps = deal(make_set(num_images), num_workers, batch_size=batch_size, seed=seed)
    assert len(steps) == count_steps(num_images, batch_size, num_workers)
    seen: list[int] = []
    for number, step in enumerate(steps):
        whole = merge(step)
        assert len(whole) == min(batch_size, num_images - number * batch_size)
        assert max(len(batch.images) for batch in step) - min(len(batch.images) for batch in step) <= 1
        assert np.mean([batch.weight for batch in step]) == pytest.approx(1, abs=1e-12)
        for batch in step:
            assert batch.labels.tolist() == [n % 7 for n in numbers_of(batch)]
        seen += whole
    assert len(set(seen)) == len(seen)
    assert num_images - len(seen) < max(1, min(2 * num_workers, batch_size))


@settings(deadline=None, max_examples=50)
@given(**SIZES, seed=st.integers(0, 2**62), epoch=st.integers(0, 100))
def test_the_global_order_is_the_same_for_any_number_of_workers(
    make_set: MakeSet, num_images: int, batch_size: int, num_workers: int, seed: int, epoch: int
) -> None:
    options = {"batch_size": batch_size, "seed": seed, "epoch": epoch}
    alone = [merge(step) for step in deal(make_set(num_images), 1, **options)]
    several = [merge(step) for step in deal(make_set(num_images), num_workers, **options)]
    common = min(len(alone), len(several))
    assert alone[:common] == several[:common]
    assert abs(len(alone) - len(several)) <= 1  # only the last partial batch may be too small for some


@settings(deadline=None, max_examples=50)
@given(**SIZES)
def test_weighted_losses_average_to_the_loss_over_the_global_batch(
    make_set: MakeSet, num_images: int, batch_size: int, num_workers: int
) -> None:
    for step in deal(make_set(num_images), num_workers, batch_size=batch_size):
        filled = [batch for batch in step if len(batch.images)]
        total = sum(batch.images.mean(dtype=torch.float64).item() * batch.weight for batch in filled) / num_workers
        whole = torch.cat([batch.images for batch in filled]).mean(dtype=torch.float64).item()
        assert total == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "num_workers", "steps"),
    [
        pytest.param(64, 16, 1, 4, id="no rest"),
        pytest.param(65, 16, 1, 4, id="one image left: out, batch norm cannot take it"),
        pytest.param(66, 16, 1, 5, id="two images left"),
        pytest.param(67, 16, 2, 4, id="three left, two workers"),
        pytest.param(68, 16, 2, 5, id="two for each of two workers"),
        pytest.param(10, 16, 1, 1, id="fewer than a batch"),
        pytest.param(3, 16, 2, 1, id="the only batch is never left out"),
        pytest.param(1, 16, 1, 1, id="one image"),
        pytest.param(5, 1, 1, 5, id="batches of one"),
    ],
)
def test_the_last_partial_batch(num_images: int, batch_size: int, num_workers: int, steps: int) -> None:
    assert count_steps(num_images, batch_size, num_workers) == steps


def test_an_epoch_is_decided_by_seed_and_epoch(make_set: MakeSet) -> None:
    images = make_set(64)
    config = DataConfig(image_size=8, channels=1, normalization="unit", augmentation=AugmentationConfig(strength=1))

    def pixels(config: DataConfig, seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([batch.images for batch in train(images, config, seed=seed, epoch=epoch)])

    for each in (GREY, config):
        first = pixels(each, 5, 2)
        torch.manual_seed(99)
        assert torch.equal(first, pixels(each, 5, 2))
        assert not torch.equal(first, pixels(each, 5, 3))
        assert not torch.equal(first, pixels(each, 6, 2))


def test_every_epoch_has_its_own_order(make_set: MakeSet) -> None:
    orders = {
        tuple(number for batch in train(make_set(64), epoch=epoch) for number in numbers_of(batch))
        for epoch in range(20)
    }
    assert len(orders) == 20
    assert {frozenset(order) for order in orders} == {frozenset(range(64))}


def test_workers_draw_different_augmentations(make_set: MakeSet) -> None:
    same = make_set(1)
    images = ImageSet(same.folder)
    config = DataConfig(image_size=8, channels=1, normalization="unit", augmentation=AugmentationConfig(strength=1))
    images.__dict__["rows"] = np.zeros(8, dtype=np.int64)  # the same picture eight times
    images.__dict__["labels"] = np.zeros(8, dtype=np.int64)
    ranks = [train(images, config, rank=rank, num_workers=2, batch_size=8)[0].images for rank in range(2)]
    assert not torch.equal(*ranks)


def test_without_strength_training_images_are_those_of_evaluation(make_set: MakeSet) -> None:
    images = make_set(40)
    augmentation = AugmentationConfig(strength=0, random_crop=0.9, rotation_degrees=180, brightness=1, contrast=1)
    config = DataConfig(image_size=8, channels=1, normalization="unit", augmentation=augmentation)
    by_number = torch.cat([b.images for b in iterate_evaluation(images, config, batch_size=9, worker=Worker())])
    for batch in train(images, config):
        assert torch.equal(batch.images, by_number[numbers_of(batch)])


def test_augmentation_is_for_training_alone(make_set: MakeSet) -> None:
    images = make_set(40)
    config = DataConfig(image_size=8, channels=1, normalization="unit", augmentation=AugmentationConfig(strength=1))
    plain, augmented = (
        next(iterate_evaluation(images, each, batch_size=40, worker=Worker())).images for each in (GREY, config)
    )
    assert torch.equal(plain, augmented)
    assert not torch.equal(train(images, GREY)[0].images, train(images, config)[0].images)


# Evaluation


@settings(deadline=None, max_examples=100)
@given(**SIZES)
def test_evaluation_sees_every_image_exactly_once(
    make_set: MakeSet, num_images: int, batch_size: int, num_workers: int
) -> None:
    seen: list[int] = []
    for rank in range(num_workers):
        worker = Worker(rank=rank, num_workers=num_workers)
        mine: list[int] = []
        for batch in iterate_evaluation(make_set(num_images), GREY, batch_size=batch_size, worker=worker):
            assert 1 <= len(batch.images) <= batch_size
            assert batch.weight == 1
            assert batch.labels.tolist() == [n % 7 for n in numbers_of(batch)]
            mine += numbers_of(batch)
        assert mine == sorted(mine)
        seen += mine
    assert sorted(seen) == list(range(num_images))


def test_evaluation_of_some_images(make_set: MakeSet) -> None:
    indices = np.array([7, 3, 3, 39])
    batches = iterate_evaluation(make_set(40), GREY, batch_size=3, worker=Worker(), indices=indices)
    assert [numbers_of(batch) for batch in batches] == [[7, 3, 3], [39]]


# Values


@pytest.mark.parametrize(
    ("normalization", "channels", "mean", "deviation"),
    [
        ("imagenet", 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("unit", 1, (0,), (1,)),
        ("unit", 3, (0, 0, 0), (1, 1, 1)),
        ("symmetric", 1, (0.5,), (0.5,)),
        ("symmetric", 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_normalisation(
    make_set: MakeSet, normalization: Any, channels: Any, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> None:
    images = make_set(20, channels=channels)
    config = DataConfig(image_size=8, channels=channels, normalization=normalization)
    pixels = images.gather(np.arange(20))
    expected = ((pixels / 255 - np.array(mean)) / np.array(deviation)).transpose(0, 3, 1, 2)
    batch = next(iterate_evaluation(images, config, batch_size=20, worker=Worker()))
    assert batch.images.shape == (20, channels, 8, 8)
    assert (batch.images.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-6)
    assert torch.equal(normalise_images(pixels, config, torch.device("cpu")), batch.images)
    trained = train(images, config, batch_size=20)[0]
    order = [labels.tolist() for labels in (trained.labels, batch.labels)]
    assert sorted(order[0]) == sorted(order[1])
    assert trained.images.mean() == pytest.approx(batch.images.mean().item(), abs=1e-5)


@pytest.mark.parametrize("strength", [0, 1])
def test_images_are_brought_from_the_cached_size_to_the_models(make_set: MakeSet, strength: float) -> None:
    config = DataConfig(
        image_size=8,
        cache_size=20,
        channels=1,
        normalization="unit",
        augmentation=AugmentationConfig(strength=strength),
    )
    images = make_set(12, side=20)
    for batches in (train(images, config), iterate_evaluation(images, config, batch_size=12, worker=Worker())):
        assert [batch.images.shape for batch in batches] == [(12, 1, 8, 8)]


def test_the_stored_images_stay_as_they_are(make_set: MakeSet) -> None:
    images = make_set(30, channels=3)
    before = (images.folder / "images.npy").read_bytes()
    config = DataConfig(image_size=8, augmentation=AugmentationConfig(strength=1))
    first = [batch.images for batch in train(images, config)]
    again = [batch.images for batch in train(images, config)]
    assert all(map(torch.equal, first, again))
    assert (images.folder / "images.npy").read_bytes() == before


# What is sent around


def test_an_image_set_is_sent_by_reference(make_set: MakeSet) -> None:
    images = make_set(300, side=64)
    images.gather(np.arange(5))
    sent = pickle.dumps(images)
    assert len(sent) < 500
    assert np.array_equal(pickle.loads(sent).gather(np.arange(5)), images.gather(np.arange(5)))


def test_rows_that_were_not_decoded_are_passed_over(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1))
    np.save(tmp_path / "rows.npy", np.array([0, 2, 3]))
    np.save(tmp_path / "labels.npy", np.array([5, 6, 7]))
    images = ImageSet(tmp_path)
    assert len(images) == 3
    assert images.gather(np.array([2, 1, 1])).ravel().tolist() == [3, 2, 2]


@given(seed=st.integers(0, 2**62), parts=st.lists(st.integers(0, 1000), max_size=4))
def test_derived_seeds_fit_torch_and_tell_their_parts_apart(seed: int, parts: list[int]) -> None:
    derived = derive_seed(seed, *parts)
    torch.Generator().manual_seed(derived)
    assert 0 <= derived < 2**63
    assert derived == derive_seed(seed, *parts)
    assert derived != derive_seed(seed, *parts, 1)


def test_resizing_and_normalising_are_torchvisions_to_the_last_digit() -> None:
    """Its functions are not imported for these two, which every trial uses."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
    mean, deviation = STATISTICS["imagenet"]
    expected = transforms.normalize(transforms.resize(images, [13, 13], antialias=True), list(mean), list(deviation))
    assert torch.equal(normalise_images(pixels, DataConfig(image_size=13), torch.device("cpu")), expected)
