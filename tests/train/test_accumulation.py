"""A step in parts, where the memory does not hold its batch: gradients and what follows are those of the whole."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from raysweep.config import Objective
from raysweep.data.batches import Batch, Worker
from raysweep.data.images import PreparedData
from raysweep.data.mixing import Mixing
from raysweep.train.accumulation import MIN_AT_ONCE, choose_num_parts, split_batch
from raysweep.train.loop import fit
from raysweep.train.state import TrainState
from raysweep.train.task import Task, build_task
from raysweep.trial_config import TrialConfig

OBJECTIVE = Objective(metric="val/accuracy")


def draw_batch(num_images: int, *, mixed: bool = False, weight: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_images) % 3
    shares = torch.rand(num_images, generator=generator)
    return Batch(
        torch.randn(num_images, 3, 12, 12, generator=generator),
        labels,
        np.arange(num_images),
        weight,
        Mixing(labels.roll(1), shares) if mixed else None,
    )


@pytest.mark.parametrize(
    ("num_images", "num_parts", "sizes"),
    [(8, 2, [4, 4]), (9, 2, [4, 5]), (5, 4, [2, 3]), (3, 4, [3]), (1, 2, [1]), (8, 1, [8])],
)
def test_parts_are_alike_and_hold_each_image_once(num_images: int, num_parts: int, sizes: list[int]) -> None:
    whole = draw_batch(num_images, mixed=True, weight=1.5)
    parts = split_batch(whole, num_parts)
    assert [len(part.labels) for part in parts] == sizes
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
    assert np.array_equal(np.concatenate([part.indices for part in parts]), whole.indices)
    assert whole.mixing is not None
    mixings = [part.mixing for part in parts if part.mixing is not None]
    assert torch.equal(torch.cat([mixing.shares for mixing in mixings]), whole.mixing.shares)
    assert torch.equal(torch.cat([mixing.labels for mixing in mixings]), whole.mixing.labels)
    assert sum(part.weight for part in parts) == pytest.approx(whole.weight)


def start(config: TrialConfig, data: PreparedData, num_parts: int) -> tuple[Task, TrainState]:
    torch.manual_seed(0)
    task = build_task(config, data.info)
    task.num_parts = num_parts
    return task, task.init_state(Worker(), lambda module: module)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("num_parts", [2, 4, 3])
def test_gradients_add_up_to_those_of_the_whole_batch(
    make_config: Callable[..., TrialConfig], make_data: Callable[..., PreparedData], num_parts: int, mixed: bool
) -> None:
    config = make_config(
        dropout=0.0, batch_norm=False, ema_decay=0.9, gradient_clip_norm=0.5, schedule="cosine", optimizer="sgd"
    )
    batch = draw_batch(11, mixed=mixed, weight=0.9)
    (task, whole), (other, parted) = (start(config, make_data(), parts) for parts in (1, num_parts))
    for _ in range(3):
        expected, found = task.train_step(whole, batch), other.train_step(parted, batch)
        whole.end_step()
        parted.end_step()
        assert found["loss"].item() == pytest.approx(expected["loss"].item(), abs=1e-6)
        for one, two in zip(whole.modules["model"].parameters(), parted.modules["model"].parameters(), strict=True):
            assert one.grad is not None
            assert two.grad is not None
            assert torch.allclose(one.grad, two.grad, rtol=0, atol=1e-6)
            assert torch.allclose(one, two, rtol=0, atol=1e-6)
    rates = [state.optimizers["model"].param_groups[0]["lr"] for state in (whole, parted)]
    assert rates[0] == rates[1] < config.task.learning_rate  # type: ignore[attr-defined]
    averages = [list(state.averages["model"].module.parameters()) for state in (whole, parted)]
    assert all(torch.allclose(one, two, rtol=0, atol=1e-6) for one, two in zip(*averages, strict=True))


def test_a_trial_in_parts_trains_alike_says_so_and_goes_on_so(
    make_config: Callable[..., TrialConfig], make_data: Callable[..., PreparedData]
) -> None:
    """A batch of 8 in 4 parts; the last one of an epoch has 4 images, and an evaluation step a quarter of its 500."""
    config = make_config(dropout=0.0, batch_norm=False, epochs=2)
    whole, parted = (
        fit(config, make_data(), OBJECTIVE, report=lambda _: None, num_parts=num_parts) for num_parts in (1, 4)
    )
    assert [row.get("train/parts_per_step") for row in whole.history] == [None, None]
    assert [row["train/parts_per_step"] for row in parted.history] == [4, 4]
    for one, two in zip(whole.history, parted.history, strict=True):
        assert two["train/loss"] == pytest.approx(one["train/loss"], abs=1e-5)
        assert two["val/loss"] == pytest.approx(one["val/loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "numbers"),
    [(32, 1, [2, 4, 8]), (32, 2, [2, 4]), (8, 1, [2]), (2 * MIN_AT_ONCE - 1, 1, [])],
)
def test_parts_are_halved_down_to_a_few_images(
    make_config: Callable[..., TrialConfig], batch_size: int, num_workers: int, numbers: list[int]
) -> None:
    config = make_config(batch_size=batch_size)
    found, num_parts = [], choose_num_parts(config, 1, num_workers)
    while num_parts is not None:
        found.append(num_parts)
        num_parts = choose_num_parts(config, num_parts, num_workers)
    assert found == numbers
