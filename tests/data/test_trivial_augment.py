"""TrivialAugment's operations: each is torchvision's; operation, magnitude and sign are drawn evenly."""

import math

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from raysweep.data.trivial_augment import LEVELS, OPERATIONS, SHIFT, describe, draw_operations, operate_

SIZE = 40
BILINEAR = InterpolationMode.BILINEAR


def noise(count: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def move(image: torch.Tensor, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    degrees = [math.degrees(math.atan(tangent)) for tangent in shear]
    centre = [0, 0] if any(shear) else None
    moved: torch.Tensor = transforms.affine(
        image, 0.0, list(shift), 1.0, degrees, interpolation=BILINEAR, center=centre
    )
    return moved


def expect(operation: str, image: torch.Tensor, level: float, sign: float) -> torch.Tensor:
    """What torchvision makes of the image."""
    change, shift = 0.99 * level * sign, int(SHIFT * SIZE * level) * round(sign)
    made: dict[str, torch.Tensor] = {
        "identity": image,
        "shear_x": move(image, shear=(change, 0.0)),
        "shear_y": move(image, shear=(0.0, change)),
        "translate_x": move(image, (shift, 0)),
        "translate_y": move(image, (0, shift)),
        "rotate": transforms.rotate(image, 135 * level * sign, BILINEAR),
        "brightness": transforms.adjust_brightness(image, 1 + change),
        "colour": transforms.adjust_saturation(image, 1 + change),
        "contrast": transforms.adjust_contrast(image, 1 + change),
        "sharpness": transforms.adjust_sharpness(image, 1 + change),
        "posterize": transforms.posterize(image, round(8 - 6 * level)),
        "solarize": transforms.solarize(image, 1 - level),
        "autocontrast": transforms.autocontrast(image),
        "equalize": transforms.equalize(image),
    }
    return made[operation]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 1.0])
def test_each_operation_is_torchvisions(level: float, sign: float, channels: int) -> None:
    images = noise(len(OPERATIONS), channels)
    images[3] = 0.5  # of one value
    each = torch.arange(len(OPERATIONS)).double()
    described = describe(each, torch.full_like(each, level), torch.full_like(each, sign), SIZE)
    changed = images.clone()
    operate_(changed, described)
    for name, image, result in zip(OPERATIONS, images, changed, strict=True):
        difference = (result - expect(name, image, level, sign)).abs().max().item()
        assert difference <= (1 / 255 + 1e-6 if name in ("equalize", "posterize", "solarize") else 2e-5), name


def test_draws_are_even() -> None:
    drawn = draw_operations(20_000, 1.0, SIZE, torch.Generator().manual_seed(0))
    brighter = drawn[:, 6]
    changed = brighter != 1
    assert changed.float().mean().item() == pytest.approx((LEVELS - 1) / LEVELS / len(OPERATIONS), abs=0.005)
    assert (brighter > 1).sum().item() == pytest.approx((brighter < 1).sum().item(), rel=0.15)
    assert len(brighter.unique()) == 2 * LEVELS - 1
    assert drawn[:, 12:].sum(0).tolist() == pytest.approx([20_000 / len(OPERATIONS)] * 2, rel=0.1)


def test_an_operation_has_its_probability() -> None:
    drawn = draw_operations(20_000, 0.3, SIZE, torch.Generator().manual_seed(0))
    unchanged = draw_operations(1, 0.0, SIZE, torch.Generator().manual_seed(0))
    share = (drawn != unchanged).any(dim=1).float().mean().item()
    assert share == pytest.approx(0.3 * 13 / 14, abs=0.02)


def test_no_operation_leaves_the_images() -> None:
    images = noise(50)
    drawn = draw_operations(50, 0.0, SIZE, torch.Generator().manual_seed(0))
    changed = images.clone()
    operate_(changed, drawn)
    torch.testing.assert_close(changed, images, rtol=0, atol=2e-5)
