"""Augmentation: each image has its own draw, decided by the generator; sizes and the range of pixels hold.

A batch at once is what torchvision's functions make of its images one by one, in as many operations as for two.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from raysweep.config import AugmentationConfig
from raysweep.data.augment import CPU_BLOCK, ERASED_AREAS, apply_augmentation, draw_augmentation, draw_windows
from raysweep.data.sampling import find_inside

NONE: dict[str, Any] = {
    "random_crop": 0.0,
    "rotation_degrees": 0.0,
    "horizontal_flip": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
}
SHARE = st.floats(0, 1, width=32)


def augment(images: torch.Tensor, config: AugmentationConfig, size: int, generator: torch.Generator) -> torch.Tensor:
    drawn = draw_augmentation(len(images), images.shape[-1], config, size, generator)
    return apply_augmentation(images, [values.to(images.device) for values in drawn], config, size)


def run(images: torch.Tensor, size: int | None = None, seed: int = 0, **options: float) -> torch.Tensor:
    config = AugmentationConfig(**{"strength": 1.0, **options})
    return augment(images, config, size or images.shape[-1], torch.Generator().manual_seed(seed))


def noise(count: int, channels: int = 3, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def same_picture(count: int) -> torch.Tensor:
    return noise(1, side=64).expand(count, -1, -1, -1).contiguous()


def augment_one(image: torch.Tensor, config: AugmentationConfig, size: int, draw: list[float]) -> torch.Tensor:
    """What is done to one image (C, H, W), by torchvision."""
    cut, top, left, angle, mirror, brightness, contrast = draw
    strength = config.strength
    height, width = image.shape[-2:]
    window_height = round(height * (1 - strength * config.random_crop * cut))
    window_width = round(width * (1 - strength * config.random_crop * cut))
    window = [
        round(top * (height - window_height)),
        round(left * (width - window_width)),
        window_height,
        window_width,
    ]
    if window != [0, 0, height, width] or (height, width) != (size, size):
        image = transforms.resized_crop(image, *window, size=[size, size], antialias=True)
    if config.rotation_degrees:
        degrees = (2 * angle - 1) * strength * config.rotation_degrees
        image = transforms.rotate(image, degrees, InterpolationMode.BILINEAR)
    if mirror < strength * config.horizontal_flip:
        image = transforms.horizontal_flip(image)
    if config.brightness:
        image = transforms.adjust_brightness(image, 1 + (2 * brightness - 1) * strength * config.brightness)
    if config.contrast:
        image = transforms.adjust_contrast(image, 1 + (2 * contrast - 1) * strength * config.contrast)
    return image


def augment_one_by_one(images: torch.Tensor, config: AugmentationConfig, size: int, seed: int) -> torch.Tensor:
    draws = torch.rand(len(images), 7, generator=torch.Generator().manual_seed(seed)).tolist()
    return torch.stack([augment_one(image, config, size, draw) for image, draw in zip(images, draws, strict=True)])


class Counter(TorchDispatchMode):
    """Counts the operations that make a tensor on a device, views of one left out."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.count = device, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **kwargs or {})
        if isinstance(result, torch.Tensor) and result.device.type == self.device and not function.is_view:
            self.count += 1
        return result


SETTINGS = {
    "strength": st.floats(2**-20, 1, width=32),
    "random_crop": st.floats(0, 0.875, width=32),
    "rotation_degrees": st.floats(0, 180, width=32),
    "horizontal_flip": SHARE,
    "brightness": SHARE,
    "contrast": SHARE,
}
IMAGES = {
    "side": st.integers(8, 40),
    "size": st.integers(8, 40),
    "channels": st.sampled_from([1, 3]),
    "seed": st.integers(0, 2**32),
}


@settings(deadline=None, max_examples=200)
@given(**SETTINGS, **IMAGES, interleaved=st.booleans())
def test_a_batch_at_once_is_its_images_one_by_one(
    side: int, size: int, channels: int, seed: int, interleaved: bool, **options: float
) -> None:
    images = noise(6, channels, side, seed=seed % 7)
    if interleaved:  # as decoded ones are
        images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    config = AugmentationConfig(**options)
    changed = augment(images, config, size, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(changed, augment_one_by_one(images, config, size, seed), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("side", "size"), [(28, 28), (224, 224), (256, 224), (300, 128)])
def test_large_images_at_once_are_theirs_one_by_one(side: int, size: int) -> None:
    images, config = noise(4, side=side), AugmentationConfig(strength=1.0, rotation_degrees=90)
    changed = augment(images, config, size, torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed, augment_one_by_one(images, config, size, 0), rtol=0, atol=5e-5)


@pytest.mark.parametrize(("count", "side", "size"), [(6, 16, 16), (6, 16, 12), (9, 224, 224)])
def test_bytes_are_changed_as_what_they_stand_for(count: int, side: int, size: int) -> None:
    pixels = noise(count, side=side).mul(255).round().byte()
    decoded = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(run(decoded, size), run(pixels / 255, size), rtol=0, atol=2e-6)


def test_images_of_another_block_are_changed_alike() -> None:
    images = noise(2 + CPU_BLOCK * torch.get_num_threads() // (3 * 224**2), side=224)
    assert torch.equal(run(images)[:2], run(images[:2]))


ALL = {"strength": 1.0, "trivial_augment": 1.0, "random_erasing": 1.0}


@pytest.mark.parametrize(
    ("side", "options", "most"),
    [
        pytest.param(28, {"strength": 1.0}, 28, id="as large as asked for"),
        pytest.param(32, {"strength": 1.0}, 47, id="larger"),
        pytest.param(28, ALL, 126, id="everything"),
    ],
)
def test_a_batch_takes_as_many_operations_as_two_images(side: int, options: dict[str, float], most: int) -> None:
    counts = []
    for num_images in (2, 128):
        images = torch.empty(
            num_images, 3, side, side, dtype=torch.uint8, device="meta"
        )  # no values: none is asked for
        with Counter("meta") as counter:
            changed = augment(images, AugmentationConfig(**options), 28, torch.Generator().manual_seed(0))
        assert changed.shape == (num_images, 3, 28, 28)
        counts.append(counter.count)
    assert counts[0] == counts[1] <= most


@settings(deadline=None, max_examples=60)
@given(**SETTINGS, **IMAGES, trivial_augment=SHARE, random_erasing=SHARE, black_and_white=st.booleans())
def test_any_setting_keeps_the_size_asked_for_and_the_range(
    side: int, size: int, channels: int, seed: int, black_and_white: bool, **options: float
) -> None:
    images = noise(4, channels, side)
    changed = run(images.round() if black_and_white else images, size, seed, **options)
    assert changed.shape == (4, channels, size, size)
    assert changed.dtype == torch.float32
    assert changed.min() >= -1e-6  # what rounding leaves
    assert changed.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("change", "amount", "fewest"),
    [
        ("random_crop", 0.5, 16),
        ("rotation_degrees", 45.0, 16),
        ("horizontal_flip", 0.5, 2),
        ("brightness", 0.5, 16),
        ("contrast", 0.5, 16),
        ("trivial_augment", 1.0, 8),
        ("random_erasing", 1.0, 16),
    ],
)
def test_each_change_alone_differs_from_image_to_image(change: str, amount: float, fewest: int) -> None:
    images = same_picture(16)
    changed = run(images, **(NONE | {change: amount}))
    assert not torch.equal(changed, images)
    assert len({image.numpy().tobytes() for image in changed}) >= fewest


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


# Random erasing


@pytest.mark.parametrize("size", [8, 28, 100])
def test_erased_windows_have_their_share_and_lie_inside(size: int) -> None:
    windows = draw_windows(2000, 1.0, size, torch.Generator().manual_seed(0))
    top, left, height, width = windows.unbind(1)
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] >= 1).all()
    assert (top + height <= size).all()
    assert (left + width <= size).all()
    shares = height * width / size**2
    rounding = 2 / size
    assert shares.min() >= ERASED_AREAS[0] - rounding
    assert shares.max() <= ERASED_AREAS[1] + rounding
    assert shares.mean().item() == pytest.approx(sum(ERASED_AREAS) / 2, abs=0.02)
    assert top.min() == left.min() == 0
    assert (top + height).max() == (left + width).max() == size


def test_erasing_has_its_probability_and_blanks_a_window_alone() -> None:
    images = noise(1000) / 2 + 0.5
    changed = run(images, **(NONE | {"random_erasing": 0.5}), strength=0.5)
    erased = changed == 0
    assert erased.flatten(1).any(1).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(changed[~erased], images[~erased])


def test_the_pixels_inside_a_window() -> None:
    inside = find_inside(torch.tensor([[1.0, 0, 2, 3], [0, 0, 0, 0]]), 4)
    assert inside[0, 0].int().tolist() == [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert not inside[1].any()


@pytest.mark.gpu
@pytest.mark.parametrize("side", [28, 40])
def test_a_gpu_makes_the_same_of_a_batch(side: int) -> None:
    images, config = noise(16, side=side), AugmentationConfig(**ALL)
    expected, changed = (
        augment(images.to(device), config, 28, torch.Generator().manual_seed(0)).cpu() for device in ("cpu", "cuda")
    )
    different = (changed - expected).abs() > 1e-4  # equalizing and posterizing round
    assert different.float().mean() < 0.01
