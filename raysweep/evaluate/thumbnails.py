"""Makes small pictures of decoded images that a page or a JSON file can hold as text."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 112
"""Pixels of the longer side at most."""
SMALL = 48
"""Images of at most so many pixels a side are kept without loss."""


def encode_thumbnail(pixels: npt.NDArray[np.uint8]) -> str:
    """Encodes an image (H, W, C) uint8, C 1 or 3, as a `data:` URI: a PNG where it is small, else a shrunk JPEG."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind, options = ("png", {"optimize": True}) if max(image.size) <= SMALL else ("jpeg", {"quality": 82})
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def overlay_heat(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Lays a heat map (h, w) in [0, 1], yellow to red, over an image (H, W, C) uint8; returns (SIDE, SIDE, 3) uint8."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    smooth = Image.fromarray(np.uint8(np.clip(heat, 0, 1) * 255)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    value = np.asarray(smooth, np.float32)[..., None] / 255
    colour = np.concatenate([np.full_like(value, 235), 215 * (1 - value) + 20, np.full_like(value, 30)], axis=2)
    opacity = 0.75 * value
    ground = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    return np.round(ground * (1 - opacity) + colour * opacity).astype(np.uint8)
