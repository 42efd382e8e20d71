"""Differentiable augmentation: what each change may do to an image, and that gradients pass."""

import pytest
import torch

from raysweep.tasks.gan.augment import change_colours, diff_augment
from raysweep.tasks.gan.config import Policy

POLICIES = ("translation", "translation_cutout", "colour_translation_cutout")


def dots(num_images: int, side: int = 28) -> torch.Tensor:
    """Black images with one white pixel in the middle."""
    images = torch.zeros(num_images, 1, side, side)
    images[:, :, side // 2, side // 2] = 1
    return images


def test_none_changes_nothing() -> None:
    images = torch.randn(2, 1, 28, 28)
    assert diff_augment(images, "none") is images


def test_translation_moves_by_up_to_an_eighth_in_whole_pixels() -> None:
    torch.manual_seed(0)
    moved = diff_augment(dots(2000), "translation")
    places = moved[:, 0].nonzero()
    assert len(places) == 2000
    assert moved.sum() == 2000
    shifts = places[:, 1:] - 14
    for axis in range(2):
        counts = torch.bincount(shifts[:, axis] + 4)
        assert len(counts) == 9  # round(28 / 8) = 4 to either side
        assert counts.min() > 150
    assert len(shifts.unique(dim=0)) == 81  # both axes on their own


def test_what_is_moved_in_is_zero_and_the_rest_is_kept() -> None:
    torch.manual_seed(0)
    images = torch.rand(50, 3, 32, 32) + 1
    for before, after in zip(images, diff_augment(images, "translation"), strict=True):
        seen = after[0] != 0
        rows, columns = seen.any(dim=1).sum(), seen.any(dim=0).sum()
        assert seen.sum() == rows * columns
        assert min(rows, columns) >= 28
        assert torch.isin(after[:, seen], before).all()


def test_cutout_blanks_one_window_of_half_the_side() -> None:
    torch.manual_seed(0)
    images = torch.ones(500, 1, 28, 28)
    # of white images a translation shows as a black border: the cut-out window is looked for in the middle
    blank = diff_augment(images, "translation_cutout")[:, 0, 4:24, 4:24] == 0
    height, width = blank.any(dim=2).sum(dim=1), blank.any(dim=1).sum(dim=1)
    assert torch.equal(blank.sum(dim=(1, 2)), height * width)
    assert height.max() == width.max() == 14
    assert (height < 14).any()  # a window may reach over the edge
    assert len(torch.stack([blank.float().argmax(dim=1).float().mean(dim=1)]).unique()) > 5


def test_colours_change_brightness_and_contrast_by_up_to_a_half() -> None:
    torch.manual_seed(0)
    images = torch.stack([torch.full((1, 12, 12), value) for value in (-0.4, 0.4)]).repeat_interleave(300, dim=0)
    images[:, :, ::2] += 0.2
    images[:, :, 1::2] -= 0.2
    changed = change_colours(images)
    shift = changed.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))
    assert -0.5 <= shift.min() < -0.45
    assert 0.45 < shift.max() <= 0.5
    contrast = changed.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 0.5 <= contrast.min() < 0.55
    assert 1.45 < contrast.max() <= 1.5


def test_saturation_mixes_the_channels_of_rgb() -> None:
    torch.manual_seed(0)
    images = torch.rand(200, 3, 8, 8)
    changed = diff_augment(images, "colour_translation_cutout")
    grey = changed - changed.mean(dim=1, keepdim=True)
    assert grey.abs().amax(dim=(1, 2, 3)).min() < 0.05  # some lose nearly all colour
    assert grey.abs().amax(dim=(1, 2, 3)).max() > 0.5


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_has_its_own_draw_and_gradients_pass(policy: Policy, channels: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(1, channels, 28, 28).expand(8, channels, 28, 28).clone().requires_grad_()
    changed = diff_augment(images, policy)
    assert changed.shape == images.shape
    assert len({tuple(image.flatten().tolist()) for image in changed.detach()}) > 4  # of 81 shifts, two may agree
    changed.sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
