"""Small pictures as text: what the report shows of an image is that image."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from raysweep.evaluate.thumbnails import SIDE, encode_thumbnail, overlay_heat


def decode(uri: str) -> Image.Image:
    kind, _, content = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert kind == f"data:image/{(image.format or '').lower()}"
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_image_is_kept_as_it_is(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 20, channels), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(decode(encode_thumbnail(pixels))).reshape(pixels.shape), pixels)


def test_a_large_image_is_shrunk_and_looks_the_same() -> None:
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    pixels = np.repeat(np.tile(ramp, (200, 1))[..., None], 3, axis=2)
    shrunk = decode(encode_thumbnail(pixels))
    assert shrunk.size == (SIDE, round(SIDE * 2 / 3))
    middle = np.asarray(shrunk)[shrunk.height // 2, :, 0].astype(int)
    assert np.abs(middle - np.linspace(0, 255, SIDE)).max() < 12


def test_heat_covers_where_it_is_high_alone() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[:2, :2] = 1
    drawn = overlay_heat(np.full((28, 28, 1), 100, np.uint8), heat)
    assert drawn.shape == (SIDE, SIDE, 3)
    red, _, blue = drawn[10, 10].astype(int)
    assert red > 180
    assert blue < 60
    np.testing.assert_array_equal(drawn[-5, -5], [100, 100, 100])
