"""Augmentation: each image has its own draw, decided by the generator; sizes and the range of pixels hold."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.config import AugmentationConfig
from raysweep.data.augment import augment

NONE: dict[str, Any] = {
    "random_crop": 0.0,
    "rotation_degrees": 0.0,
    "horizontal_flip": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
}
SHARE = st.floats(0, 1, width=32)


def run(images: torch.Tensor, size: int | None = None, seed: int = 0, **options: float) -> torch.Tensor:
    config = AugmentationConfig(**{"strength": 1.0, **options})
    return augment(images, config, size or images.shape[-1], torch.Generator().manual_seed(seed))


def noise(count: int, channels: int = 3, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def same_picture(count: int) -> torch.Tensor:
    return noise(1, side=64).expand(count, -1, -1, -1).contiguous()


@settings(deadline=None, max_examples=60)
@given(
    strength=st.floats(2**-20, 1, width=32),
    random_crop=st.floats(0, 0.875, width=32),
    rotation_degrees=st.floats(0, 180, width=32),
    horizontal_flip=SHARE,
    brightness=SHARE,
    contrast=SHARE,
    side=st.integers(8, 24),
    size=st.integers(8, 24),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
    black_and_white=st.booleans(),
)
def test_any_setting_keeps_the_size_asked_for_and_the_range(
    side: int, size: int, channels: int, seed: int, black_and_white: bool, **options: float
) -> None:
    images = noise(4, channels, side)
    changed = run(images.round() if black_and_white else images, size, seed, **options)
    assert changed.shape == (4, channels, size, size)
    assert changed.dtype == torch.float32
    assert changed.min() >= -1e-6  # what rounding leaves
    assert changed.max() <= 1 + 1e-6


@pytest.mark.parametrize("change", NONE)
def test_each_change_alone_differs_from_image_to_image(change: str) -> None:
    amount = {"random_crop": 0.5, "rotation_degrees": 45.0, "horizontal_flip": 0.5, "brightness": 0.5, "contrast": 0.5}
    images = same_picture(16)
    changed = run(images, **(NONE | {change: amount[change]}))
    assert not torch.equal(changed, images)
    kinds = len({image.numpy().tobytes() for image in changed})
    assert kinds == (2 if change == "horizontal_flip" else 16)


def test_images_of_a_batch_have_their_own_draws() -> None:
    changed = run(same_picture(32))
    assert len({image.numpy().tobytes() for image in changed}) == 32


def test_draws_are_decided_by_the_generator() -> None:
    images = noise(8)
    torch.manual_seed(1)
    first = run(images, seed=5)
    torch.manual_seed(2)
    assert torch.equal(first, run(images, seed=5))
    assert not torch.equal(first, run(images, seed=6))


def test_an_images_draw_does_not_depend_on_the_pixels_of_others() -> None:
    images = noise(8)
    other = torch.cat([images[:4], noise(4, seed=9)])
    assert torch.equal(run(images)[:4], run(other)[:4])


def test_nothing_to_do_leaves_images_as_they_are() -> None:
    images = noise(8)
    assert torch.equal(run(images, **NONE), images)


def test_the_images_given_are_not_changed() -> None:
    images = noise(8)
    before = images.clone()
    run(images)
    assert torch.equal(images, before)


def test_a_sure_mirror_image() -> None:
    images = noise(8)
    assert torch.equal(run(images, **(NONE | {"horizontal_flip": 1.0})), images.flip(-1))


def test_a_mirror_image_has_its_probability() -> None:
    images = noise(2000, channels=1, side=2)
    changed = run(images, **(NONE | {"horizontal_flip": 0.25}))
    share = (changed == images.flip(-1)).flatten(1).all(1).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.04)


def test_brightness_stays_within_its_largest_change() -> None:
    images = torch.full((500, 3, 4, 4), 0.5)
    levels = run(images, **(NONE | {"brightness": 0.4}), strength=0.5)[:, 0, 0, 0] / 0.5
    assert levels.min() == pytest.approx(0.8, abs=0.01)
    assert levels.max() == pytest.approx(1.2, abs=0.01)
    assert levels.mean() == pytest.approx(1.0, abs=0.02)


def test_a_window_leaves_out_no_more_than_its_share() -> None:
    ramp = torch.linspace(0, 1, 64).expand(200, 1, 64, 64).contiguous()
    changed = run(ramp, **(NONE | {"random_crop": 0.5}))
    shown = changed[..., -1].amax((1, 2)) - changed[..., 0].amin((1, 2))
    assert shown.min() > 0.45
    assert shown.max() > 0.95


def test_a_larger_strength_changes_more() -> None:
    images = noise(32)
    changes = [(run(images, strength=strength) - images).abs().mean().item() for strength in (0.1, 0.5, 1.0)]
    assert changes == sorted(changes)
    assert changes[0] < changes[2] / 2


def test_a_window_of_just_the_size_asked_for_is_cut_out() -> None:
    changed = run(noise(400, channels=1, side=9), 8, **(NONE | {"random_crop": 0.2}))
    assert changed.shape == (400, 1, 8, 8)


def test_a_larger_cached_size_is_brought_down() -> None:
    assert run(noise(4, side=40), 16).shape == (4, 3, 16, 16)
    plain = run(noise(4, side=32), 16, **NONE)
    blocks = noise(4, side=32).unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert (plain - blocks).abs().mean() < 0.1


def test_no_global_randomness_is_used() -> None:
    before = torch.get_rng_state()
    run(noise(8))
    assert torch.equal(before, torch.get_rng_state())
