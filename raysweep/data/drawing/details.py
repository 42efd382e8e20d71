"""Paints the parts that tell similar cars apart: lamps, grilles, bumpers, number plates, wheels."""

from dataclasses import dataclass

import numpy as np

from raysweep.data.drawing.camera import Brush, Colour, shade
from raysweep.data.drawing.shapes import CarShape
from raysweep.data.drawing.surface import Surface

RUBBER: Colour = (36, 36, 38)
BLACK: Colour = (14, 14, 16)
_LAMP: Colour = (230, 236, 236)
_RIM_OF_LAMP: Colour = (120, 126, 130)
_RED: Colour = (182, 20, 26)
_AMBER: Colour = (234, 140, 36)
_PLATE: Colour = (242, 242, 238)
_CHROME: Colour = (206, 208, 210)
_TURN = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)

Corners = list[tuple[float, float]]


@dataclass(frozen=True)
class _Face:
    """The front or the rear of a car; corners are (across in [-1, 1], height in metres)."""

    brush: Brush
    surface: Surface
    front: bool

    def polygon(self, corners: Corners, colour: Colour) -> None:
        across, heights = zip(*corners, strict=True)
        self.brush.polygon(self.surface.end(across, heights, front=self.front), colour)

    def pair(self, corners: Corners, colour: Colour) -> None:
        """Paints the same polygon left and right."""
        self.polygon(corners, colour)
        self.polygon([(-across, height) for across, height in corners], colour)

    def box(self, half: float, low: float, high: float, colour: Colour) -> None:
        """Paints a rectangle round the middle, bent with the surface."""
        levels = np.linspace(low, high, 4).tolist()
        self.polygon([(-half, y) for y in levels] + [(half, y) for y in levels[::-1]], colour)


def paint_end(brush: Brush, surface: Surface, paint: Colour, *, front: bool) -> None:
    """Paints the front face (bumper, grille, headlights, plate) or the rear face (lamps, plate)."""
    shape = surface.shape
    face = _Face(brush, surface, front)
    low, high = surface.bumper
    face.box(1.0, shape.clearance + 0.04, low, RUBBER if shape.cladding else shade(paint, 0.5))
    if shape.dark_bumpers:
        face.box(1.0, low, high, RUBBER)
    else:
        face.box(1.0, high - 0.01, high + 0.01, shade(paint, 0.6))
    if front:
        _paint_grille(face, shape)
        _paint_headlights(face, shape)
        face.box(0.28, low + 0.08, low + 0.18, _PLATE)
    else:
        _paint_tail_lamps(face, shape)
        face.box(0.28, high + 0.08, high + 0.18, _PLATE)


def _paint_grille(face: _Face, shape: CarShape) -> None:
    top = shape.nose_height - 0.07
    if shape.grille == "slats":
        face.box(0.5, top - 0.12, top, BLACK)
        for step in (0.03, 0.075):
            face.box(0.5, top - step - 0.015, top - step, _RIM_OF_LAMP)
    elif shape.grille == "mouth":
        face.polygon([(-0.62, 0.5), (0.62, 0.5), (0.44, 0.28), (-0.44, 0.28)], BLACK)
        face.box(0.3, top - 0.05, top - 0.01, BLACK)
    elif shape.grille == "bar":
        face.box(0.42, top - 0.09, top - 0.02, BLACK)
        face.box(0.5, 0.3, 0.37, BLACK)
    elif shape.grille == "frame":
        face.polygon([(-0.46, top), (0.46, top), (0.34, top - 0.2), (-0.34, top - 0.2)], _CHROME)
        face.polygon([(-0.4, top - 0.03), (0.4, top - 0.03), (0.3, top - 0.17), (-0.3, top - 0.17)], BLACK)
    else:
        face.box(0.9, top - 0.22, top, BLACK)
        for step in (0.05, 0.12, 0.19):
            face.box(0.88, top - step - 0.02, top - step, _CHROME)


def _paint_headlights(face: _Face, shape: CarShape) -> None:
    top = shape.nose_height - 0.05
    if shape.headlight == "round":
        for radius, colour in ((0.125, _CHROME), (0.1, _LAMP)):
            circle = [(0.7 + 1.2 * radius * np.cos(t), top - 0.12 + radius * np.sin(t)) for t in _TURN]
            face.pair([(float(x), float(y)) for x, y in circle], colour)
    elif shape.headlight == "feline":
        face.pair([(0.5, top - 0.14), (0.62, top - 0.18), (1.0, top - 0.12), (1.0, top + 0.02)], _RIM_OF_LAMP)
        face.pair([(0.56, top - 0.14), (0.64, top - 0.16), (0.97, top - 0.11), (0.97, top)], _LAMP)
    elif shape.headlight == "blade":
        face.pair([(0.52, top - 0.08), (0.52, top - 0.03), (1.0, top + 0.02), (1.0, top - 0.07)], _LAMP)
        face.pair([(0.8, 0.34), (0.92, 0.34), (0.92, 0.46), (0.84, 0.46)], _LAMP)
    else:
        depth = 0.12 if shape.headlight == "slim" else 0.18
        face.pair([(0.52, top - depth), (0.52, top), (1.0, top), (1.0, top - depth)], _RIM_OF_LAMP)
        face.pair(
            [(0.56, top - depth + 0.02), (0.56, top - 0.02), (0.86, top - 0.02), (0.86, top - depth + 0.02)],
            _LAMP,
        )
        face.pair([(0.88, top - depth), (0.88, top), (1.0, top), (1.0, top - depth)], _AMBER)


def _tail_lamp_box(shape: CarShape) -> tuple[float, float, float]:
    """Returns the distance from the side, lower and upper edge of a tail lamp."""
    top = shape.tail_height - 0.1
    if shape.tail_light == "upright":
        return 0.78, shape.clearance + 0.37, top + 0.02
    if shape.tail_light == "wide":
        return 0.45, top - 0.16, top
    if shape.tail_light == "slim":
        return 0.5, top - 0.1, top
    return 0.62, top - 0.2, top


def _paint_tail_lamps(face: _Face, shape: CarShape) -> None:
    inner, low, high = _tail_lamp_box(shape)
    middle = 0.6 * low + 0.4 * high
    face.pair([(inner, low), (inner, high), (1.0, high), (1.0, low)], _RED)
    face.pair([(inner, low), (inner, middle), (0.9, middle), (0.9, low)], _AMBER)
    if shape.tail_light in ("wide", "slim"):
        face.box(inner, 0.5 * (low + high) - 0.02, 0.5 * (low + high) + 0.02, _CHROME)


def paint_side_lamps(brush: Brush, surface: Surface) -> None:
    """Paints the parts of headlights and tail lamps that reach round to the near side."""
    shape, reach = surface.shape, surface.shape.headlight_length
    top = shape.nose_height - 0.05
    depth = {"slim": 0.12, "blade": 0.09, "feline": 0.14, "block": 0.18, "round": 0.1}[shape.headlight]
    low_x, high_x = surface.end_x(top - depth, front=True), surface.end_x(top, front=True)
    bonnet = float(np.interp(high_x + reach, surface.body[:, 0], surface.body[:, 1])) - 0.05
    if shape.headlight in ("feline", "blade"):
        tip = (high_x + reach, min(top + 0.1, bonnet))
        corners = [(low_x, top - depth), (high_x, top), tip, (high_x + 0.5 * reach, top - 0.6 * depth)]
        brush.polygon(surface.flank(corners, 0.01), _LAMP)
    elif shape.headlight != "round":
        corners = [(low_x, top - depth), (high_x, top), (high_x + reach, top), (high_x + reach, top - depth)]
        brush.polygon(surface.flank(corners, 0.01), _AMBER if shape.headlight == "slim" else _LAMP)
    _, low, high = _tail_lamp_box(shape)
    far_low, far_high = surface.end_x(low, front=False), surface.end_x(high, front=False)
    reach = {"block": 0.22, "upright": 0.12, "wide": 0.34, "slim": 0.28}[shape.tail_light]
    edge = min(far_low, far_high) - reach
    corners = [(far_low, low), (far_high, high), (edge, high), (edge + 0.06, low)]
    brush.polygon(surface.flank(corners, 0.01), _RED)


def paint_wheel(brush: Brush, shape: CarShape, x: float, z: float, rim: Colour) -> None:
    """Paints a whole wheel in the plane z, its rim in the model's pattern."""
    paint_disc(brush, x, z, shape.wheel_radius, shape.wheel_radius, BLACK)
    radius = 0.66 * shape.wheel_radius
    paint_disc(brush, x, z, shape.wheel_radius, radius, rim)
    dark = shade(rim, 0.32)
    if shape.rim == "disc":
        paint_disc(brush, x, z, shape.wheel_radius, 0.8 * radius, shade(rim, 0.55))
        paint_disc(brush, x, z, shape.wheel_radius, 0.3 * radius, rim)
    elif shape.rim == "cap":
        paint_disc(brush, x, z, shape.wheel_radius, 0.82 * radius, shade(rim, 0.8))
        for angle in np.arange(8) * (np.pi / 4):
            centre = (x + 0.7 * radius * np.cos(angle), shape.wheel_radius + 0.7 * radius * np.sin(angle))
            paint_disc(brush, centre[0], z, centre[1], 0.14 * radius, dark)
    else:
        count, gap = (5, 0.42) if shape.rim == "five" else (10, 0.2)
        for angle in np.arange(count) * (2 * np.pi / count) + 0.3:
            turns = np.array([angle - gap, angle, angle + gap, angle])
            out = np.array([0.9, 0.95, 0.9, 0.3]) * radius
            wedge = [x + out * np.cos(turns), shape.wheel_radius + out * np.sin(turns), np.full(4, z)]
            brush.polygon(np.stack(wedge, axis=1), dark)


def paint_disc(brush: Brush, x: float, z: float, y: float, radius: float, colour: Colour) -> None:
    """Paints a filled circle round (x, y) in the plane z."""
    ring = np.column_stack([x + radius * np.cos(_TURN), y + radius * np.sin(_TURN), np.full(24, z)])
    brush.polygon(ring, colour)
