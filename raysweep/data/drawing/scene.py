"""Paints what surrounds a car: backgrounds, clutter, shadows, things in front of it, the photograph."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from raysweep.data.drawing.camera import Colour, Points, shade
from raysweep.data.drawing.shapes import CarShape

_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((112, 160, 214), (206, 222, 234)),
    ((170, 176, 182), (214, 214, 210)),
    ((206, 150, 110), (236, 208, 168)),
    ((64, 78, 112), (150, 138, 146)),
    ((196, 206, 214), (238, 238, 232)),
)
_GROUNDS: tuple[Colour, ...] = (
    (96, 96, 98), (124, 120, 114), (150, 140, 122), (78, 80, 86), (112, 122, 92), (170, 164, 154),
)  # fmt: skip
_WALLS: tuple[Colour, ...] = (
    (178, 160, 134), (150, 92, 70), (204, 198, 186), (110, 118, 126), (136, 148, 132), (92, 84, 80),
)  # fmt: skip
_PARKED: tuple[Colour, ...] = ((190, 194, 198), (60, 62, 66), (52, 78, 134), (140, 44, 40), (196, 160, 60))
_GREENS: tuple[Colour, ...] = ((52, 82, 40), (78, 104, 52), (40, 62, 38), (104, 112, 58))


def _pick(rng: Generator, colours: tuple[Colour, ...], spread: float = 0.2) -> Colour:
    return shade(colours[int(rng.integers(len(colours)))], float(rng.uniform(1.0 - spread, 1.0 + 0.5 * spread)))


def paint_background(size: tuple[int, int], rng: Generator, edge: int) -> Image.Image:
    """Paints a street, a wall or open country; the ground begins `edge` pixels from the top."""
    width, height = size
    high, low = _SKIES[int(rng.integers(len(_SKIES)))]
    ground = _pick(rng, _GROUNDS)
    share = np.linspace(0.0, 1.0, height)[:, None]
    rows = np.array(high) * (1.0 - share) + np.array(low) * share
    below = np.arange(height) >= edge
    depth = np.linspace(1.1, 0.8, height)[:, None]
    rows = np.where(below[:, None], np.array(ground) * depth, rows)
    grid = np.clip(np.repeat(rows[:, None, :], width, axis=1), 0, 255).astype(np.uint8)
    picture = Image.fromarray(grid)
    draw = ImageDraw.Draw(picture)
    (_paint_houses, _paint_wall, _paint_hills)[int(rng.integers(3))](draw, rng, width, edge)
    _paint_clutter(draw, rng, width, edge)
    _paint_road(draw, rng, width, height, edge)
    return picture


def _paint_houses(draw: ImageDraw.ImageDraw, rng: Generator, width: int, edge: int) -> None:
    left = -float(rng.uniform(0, 20))
    while left < width:
        right = left + float(rng.uniform(14, 46))
        top = edge * float(rng.uniform(-0.1, 0.75))
        wall = _pick(rng, _WALLS)
        draw.rectangle((left, top, right, edge), fill=wall)
        step, pane = float(rng.uniform(6, 12)), shade(wall, float(rng.choice([0.5, 1.3])))
        for x in np.arange(left + 3, right - 4, step):
            for y in np.arange(top + 4, edge - 6, step):
                draw.rectangle((x, y, x + 0.45 * step, y + 0.6 * step), fill=pane)
        left = right + float(rng.choice([0, 0, 6]))


def _paint_wall(draw: ImageDraw.ImageDraw, rng: Generator, width: int, edge: int) -> None:
    wall, top = _pick(rng, _WALLS), edge * float(rng.uniform(-0.2, 0.5))
    draw.rectangle((0, top, width, edge), fill=wall)
    joint, step = shade(wall, float(rng.uniform(0.75, 1.15))), float(rng.uniform(4, 14))
    for y in np.arange(top, edge, step):
        draw.line((0, y, width, y), fill=joint)
    if rng.random() < 0.6:
        for x in np.arange(float(rng.uniform(0, 10)), width, float(rng.uniform(8, 40))):
            draw.line((x, top, x, edge), fill=joint)
    if rng.random() < 0.5:
        door = float(rng.uniform(0, width))
        gate = shade(_pick(rng, _WALLS), 0.8)
        draw.rectangle((door, edge - float(rng.uniform(15, 40)), door + float(rng.uniform(12, 40)), edge), gate)


def _paint_hills(draw: ImageDraw.ImageDraw, rng: Generator, width: int, edge: int) -> None:
    for distance in (0.75, 0.5):
        x = np.linspace(0, width, 9)
        y = edge * (1.0 - distance * rng.uniform(0.1, 0.9, size=9))
        ridge = [(0.0, float(edge)), *zip(x.tolist(), y.tolist(), strict=True), (float(width), float(edge))]
        draw.polygon(ridge, fill=shade(_pick(rng, ((120, 112, 110), *_GREENS)), 0.7 + 0.5 * distance))


def _paint_clutter(draw: ImageDraw.ImageDraw, rng: Generator, width: int, edge: int) -> None:
    """Paints trees, poles and parked shapes behind the car."""
    for _ in range(int(rng.integers(0, 5))):
        x, size, kind = float(rng.uniform(0, width)), float(rng.uniform(5, 18)), int(rng.integers(3))
        foot = edge + float(rng.uniform(-3, 8))
        if kind == 0:
            draw.rectangle((x - 1, foot - 3 * size, x + 1, foot), fill=(70, 56, 44))
            draw.ellipse((x - size, foot - 4 * size, x + size, foot - size), fill=_pick(rng, _GREENS))
        elif kind == 1:
            post = float(rng.uniform(0.5, 2))
            draw.rectangle((x - post, foot - 5 * size, x + post, foot), fill=_pick(rng, _WALLS, 0.5))
        else:
            draw.rectangle((x - size, foot - size, x + size, foot), fill=_pick(rng, _PARKED, 0.3))
            draw.ellipse((x - 0.8 * size, foot - 0.4 * size, x - 0.2 * size, foot + 2), fill=(24, 24, 26))


def _paint_road(draw: ImageDraw.ImageDraw, rng: Generator, width: int, height: int, edge: int) -> None:
    """Paints a kerb, lane marks, patches and the shadows of things outside the picture."""
    slope = float(rng.uniform(-6, 6))
    if rng.random() < 0.6:
        y = edge + float(rng.uniform(0, 6))
        draw.line((0, y, width, y + 0.2 * slope), fill=(176, 172, 160), width=int(rng.integers(1, 4)))
    if rng.random() < 0.5:
        y = float(rng.uniform(edge + 8, height))
        for x in np.arange(float(rng.uniform(-20, 0)), width, 34):
            draw.line((x, y, x + 16, y + slope * 0.4), fill=(208, 206, 196), width=2)
    for _ in range(int(rng.integers(0, 4))):
        x, y = float(rng.uniform(0, width)), float(rng.uniform(edge, height))
        box = (x, y, x + float(rng.uniform(8, 60)), y + float(rng.uniform(2, 8)))
        draw.ellipse(box, fill=_pick(rng, ((64, 64, 66), (132, 128, 122))))


def paint_shadow(picture: Image.Image, outline: Callable[[Points], Points], shape: CarShape, rng: Generator) -> None:
    """Darkens the ground under the car, in place; `outline` projects points (N, 3) to pixels (N, 2)."""
    turn = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
    shift = float(rng.uniform(-0.35, 0.35))
    along = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.5
    draw = ImageDraw.Draw(picture, "RGBA")
    for grow, alpha in ((1.12, 50), (1.0, 90), (0.9, 80)):
        x = shape.length * (0.5 + 0.53 * grow * along) + shift
        z = shape.width * 0.56 * grow * np.sin(turn)
        ring = outline(np.column_stack([x, np.zeros(28), z]))
        draw.polygon(ring.ravel().tolist(), fill=(12, 12, 16, alpha))


def paint_foreground(canvas: Image.Image, rng: Generator, foot: float) -> None:
    """Paints things that hide part of the car: poles, a fence's bars, bushes near `foot` (pixels from the top)."""
    draw, (width, height) = ImageDraw.Draw(canvas), canvas.size
    kind = float(rng.random())
    if kind < 0.1:
        for _ in range(int(rng.integers(1, 4))):
            x, half = float(rng.uniform(0, width)), float(rng.uniform(2, 6))
            draw.polygon(
                ((x - half, 0), (x + half, 0), (x + half + 4, height), (x - half + 4, height)),
                fill=_pick(rng, _WALLS, 0.6),
            )
    elif kind < 0.2:
        for _ in range(int(rng.integers(1, 4))):
            x, green = float(rng.uniform(0, width)), _pick(rng, _GREENS)
            for _ in range(9):
                bx, by = x + float(rng.normal(0, 14)), foot + float(rng.normal(4, 8))
                r = float(rng.uniform(4, 13))
                draw.ellipse((bx - r, by - r, bx + r, by + r), fill=shade(green, float(rng.uniform(0.7, 1.15))))
    elif kind < 0.24:
        step, bar = float(rng.uniform(18, 40)), _pick(rng, _WALLS, 0.6)
        for x in np.arange(float(rng.uniform(0, step)), width, step):
            draw.line((x, 0.3 * height, x, height), fill=bar, width=2)
        draw.line((0, 0.32 * height, width, 0.32 * height), fill=bar, width=3)


def photograph(picture: Image.Image, rng: Generator) -> Image.Image:
    """Renders the picture as a middling camera saw it: exposure, tint, uneven light, blur and noise."""
    blur = float(rng.uniform(0.0, 1.0))
    if blur > 0.3:
        picture = picture.filter(ImageFilter.BoxBlur(0.9 * blur))
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255.0)
    height, width = pixels.shape[:2]
    contrast, brightness = float(rng.uniform(0.8, 1.15)), float(rng.uniform(-0.08, 0.08))
    tint = rng.uniform(0.94, 1.06, size=3).astype(np.float32)
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32) * np.float32(rng.uniform(-0.15, 0.15))
    down = np.linspace(-1.0, 1.0, height, dtype=np.float32) * np.float32(rng.uniform(-0.1, 0.1))
    light = 1.0 + across[None, :] + down[:, None]
    pixels *= np.float32(contrast)
    pixels += np.float32(0.5 - 0.5 * contrast + brightness)
    pixels *= light[:, :, None] * tint
    grain = rng.standard_normal(pixels.shape, dtype=np.float32)
    grain *= np.float32(rng.uniform(0.004, 0.02))
    pixels += grain
    np.clip(pixels, 0.0, 1.0, out=pixels)
    pixels *= np.float32(255.0)
    return Image.fromarray(pixels.astype(np.uint8))
