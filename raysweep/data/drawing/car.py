"""Paints one car through a camera: extruded body, cabin and windows, doors, bed."""

from dataclasses import dataclass

import numpy as np

from raysweep.data.drawing.camera import Brush, Colour, Points, clipped, shade
from raysweep.data.drawing.details import (
    BLACK,
    RUBBER,
    paint_disc,
    paint_end,
    paint_side_lamps,
    paint_wheel,
)
from raysweep.data.drawing.shapes import CarShape
from raysweep.data.drawing.surface import Surface


@dataclass(frozen=True)
class Look:
    """Paint, glass, rims and light: what differs between two cars of one class."""

    paint: Colour
    glass: Colour
    rim: Colour
    light: tuple[float, float]
    """Direction (x, y) of the sun in the plane of the car's side."""
    gloss: float
    """Strength of the reflections on body and glass, in [0, 1]."""


def paint_car(brush: Brush, shape: CarShape, look: Look) -> None:
    """Paints the whole car, back to front."""
    surface = Surface(shape)
    for x in surface.axles:
        paint_disc(brush, x, -shape.width / 2 + 0.14, shape.wheel_radius, shape.wheel_radius, BLACK)
    _paint_strips(brush, surface.flank(surface.body), look)
    if shape.body == "pickup":
        _paint_bed(brush, surface, look)
    for front in (True, False):
        if _is_visible(brush, surface.flank(surface.front if front else surface.rear)):
            paint_end(brush, surface, look.paint, front=front)
    _paint_flank(brush, surface, look)
    _paint_cabin(brush, surface, look)
    for x in surface.axles:
        paint_disc(brush, x, shape.width / 2 - 0.2, shape.wheel_radius, shape.wheel_radius, BLACK)
        paint_wheel(brush, shape, x, shape.width / 2 - 0.03, look.rim)


def _strips(brush: Brush, near: Points) -> tuple[Points, Points]:
    """Projects quadrilaterals (N - 1, 4, 2) between a near outline (N, 3) and its far mirror; which are seen."""
    count = len(near)
    flat = brush.camera.project(np.concatenate([near, near * (1.0, 1.0, -1.0)]))
    this, far = flat[:count], flat[count:]
    quads = np.stack([this[:-1], this[1:], far[1:], far[:-1]], axis=1)
    x, y = quads[..., 0], quads[..., 1]
    area = np.sum(x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y, axis=1)
    return quads, (area > 0) if brush.camera.flip else (area < 0)


def _is_visible(brush: Brush, near: Points) -> bool:
    """Checks whether most of a face, given by its near edge, is turned to the camera."""
    return bool(np.mean(_strips(brush, near)[1]) > 0.5)


def _paint_strips(brush: Brush, near: Points, look: Look) -> None:
    """Paints the outside of an extruded outline, lit by the sun."""
    quads, seen = _strips(brush, near)
    run, rise = np.diff(near[:, 0]), np.diff(near[:, 1])
    size = np.maximum(np.hypot(run, rise), 1e-6)
    sun = np.maximum((-rise * look.light[0] + run * look.light[1]) / size, 0.0)
    for index in np.flatnonzero(seen):
        colour = shade(look.paint, 0.66 + 0.5 * float(sun[index]))
        brush.draw.polygon(quads[index].ravel().tolist(), fill=colour)


def _paint_flank(brush: Brush, surface: Surface, look: Look) -> None:
    """Paints the near side up to the belt: shaded in bands, with arches, doors, strips and lamps."""
    shape = surface.shape
    side = shape.clearance + 0.02
    sill = [(surface.axles[1], side), (surface.axles[0], side)]
    outline = np.concatenate([surface.body, np.array(sill)])
    brush.polygon(surface.flank(outline), shade(look.paint, 0.9))
    belt = min(shape.cowl[1], shape.deck[1])
    for share, factor in ((0.78, 0.84), (0.5, 0.76), (0.28, 0.64), (0.12, 0.52)):
        height = shape.clearance + share * (belt - shape.clearance)
        brush.polygon(surface.flank(clipped(outline, 1, height, above=False)), shade(look.paint, factor))
    _paint_shoulder(brush, surface, look)
    if shape.cladding:
        low = clipped(outline, 1, shape.clearance + 0.16, above=False)
        brush.polygon(surface.flank(low, 0.01), RUBBER)
    for x in surface.axles:
        for radius, colour in ((1.32, RUBBER if shape.cladding else shade(look.paint, 0.7)), (1.16, BLACK)):
            turn = np.linspace(0.0, np.pi, 16)
            arch = np.column_stack([x + radius * shape.wheel_radius * np.cos(turn), np.sin(turn)])
            arch[:, 1] = shape.wheel_radius + radius * shape.wheel_radius * arch[:, 1]
            foot = [(arch[-1, 0], side), (arch[0, 0], side)]
            brush.polygon(surface.flank(np.concatenate([arch, np.array(foot)]), 0.01), colour)
    if shape.dark_bumpers:
        _paint_bumper_sides(brush, surface)
    if shape.body == "pickup":
        _paint_bed_side(brush, surface, look)
    _paint_doors(brush, surface, look)
    paint_side_lamps(brush, surface)


def _paint_shoulder(brush: Brush, surface: Surface, look: Look) -> None:
    """Paints a bright reflection under the belt, and the crease along the doors."""
    shape = surface.shape
    x = np.linspace(0.3, shape.length - 0.25, 12)
    top = np.interp(x, surface.body[:, 0], surface.body[:, 1])
    band = np.concatenate([np.column_stack([x, top - 0.03]), np.column_stack([x, top - 0.09])[::-1]])
    brush.polygon(surface.flank(band), shade(look.paint, 1.0 + 0.35 * look.gloss))
    if shape.crease:
        ends = [surface.axles[0] + 0.2, surface.axles[1] + 0.1]
        height = 0.58 * float(surface.belt(ends[0])) + 0.12
        line = [(ends[0], height), (ends[1], height + shape.crease)]
        brush.line(surface.flank(line), shade(look.paint, 1.0 + 0.3 * look.gloss), 2)
        brush.line(surface.flank(np.array(line) - (0.0, 0.03)), shade(look.paint, 0.6), 1)


def _paint_bumper_sides(brush: Brush, surface: Surface) -> None:
    """Paints unpainted bumpers, as far as the wheels."""
    gap = 1.3 * surface.shape.wheel_radius
    low, high = surface.bumper
    for front, reach in ((True, surface.axles[0] - gap), (False, surface.axles[1] + gap)):
        edge = surface.end(np.zeros(4), np.linspace(low, high, 4), front=front)[:, :2]
        corners = np.concatenate([edge, np.array([(reach, high), (reach, low)])])
        brush.polygon(surface.flank(corners, 0.01), RUBBER)


def _paint_doors(brush: Brush, surface: Surface, look: Look) -> None:
    """Paints door gaps and handles; a black rubbing strip where the model has one."""
    shape, gap = surface.shape, shade(look.paint, 0.42)
    first = shape.cowl[0] + 0.3
    last = min(surface.axles[1] - 0.15, shape.deck[0] - 0.1)
    posts = [first, shape.pillars[0], last] if shape.doors == 4 else [first, last]
    foot = shape.clearance + 0.1
    for index, x in enumerate(posts):
        lean = 0.16 if index == len(posts) - 1 and shape.doors == 4 else 0.0
        middle = 0.5 * (foot + float(surface.belt(x)))
        line = [(x - lean, foot), (x, middle + 0.1), (x, float(surface.belt(x)))]
        brush.line(surface.flank(line), gap, 1)
    brush.line(surface.flank([(first, foot), (last - 0.16, foot)]), gap, 1)
    for x in posts[1:]:
        handle = np.array([(x - 0.24, -0.13), (x - 0.08, -0.12), (x - 0.08, -0.17), (x - 0.24, -0.18)])
        handle[:, 1] += surface.belt(handle[:, 0])
        brush.polygon(surface.flank(handle, 0.02), RUBBER if shape.dark_bumpers else gap)
    if shape.moulding:
        gap_x = 1.35 * shape.wheel_radius
        ends = (surface.axles[0] + gap_x, surface.axles[1] - gap_x)
        strip = [(ends[0], 0.5), (ends[1], 0.51), (ends[1], 0.57), (ends[0], 0.56)]
        brush.polygon(surface.flank(strip, 0.015), RUBBER)


def _paint_cabin(brush: Brush, surface: Surface, look: Look) -> None:
    """Paints roof, windscreen and rear window as strips, then the near side with its windows."""
    shape, cabin = surface.shape, surface.cabin
    near = surface.cabin_flank(cabin)
    _paint_strips(brush, near, look)
    for start, end in ((shape.cowl[0], shape.roof[0]), (shape.roof[1], shape.deck[0])):
        inside = (cabin[:, 0] >= start) & (cabin[:, 0] <= end)
        pane = near[inside]
        if len(pane) >= 2 and _is_visible(brush, pane):
            left, right = pane * (1.0, 1.0, 0.9), pane * (1.0, 1.0, -0.9)
            brush.polygon(np.concatenate([left, right[::-1]]), shade(look.glass, 1.0 + 0.3 * look.gloss))
    brush.polygon(near, shade(look.paint, 0.88))
    _paint_windows(brush, surface, look)
    mirror = np.array([(0.34, 0.06), (0.5, 0.06), (0.52, 0.17), (0.38, 0.17)]) + shape.cowl
    brush.polygon(surface.flank(mirror, 0.08), RUBBER if shape.dark_bumpers else shade(look.paint, 0.75))
    if shape.roof_rails:
        x = np.linspace(shape.roof[0] + 0.1, shape.roof[1] + 0.1, 8)
        y = np.interp(x, cabin[:, 0], cabin[:, 1]) + 0.05
        brush.line(surface.cabin_flank(np.column_stack([x, y]), 0.0), RUBBER, 3)


def _paint_windows(brush: Brush, surface: Surface, look: Look) -> None:
    """Paints side windows between the pillars, with the sky in their upper half."""
    shape, cabin = surface.shape, surface.cabin
    middle = 0.5 * (shape.roof[0] + shape.roof[1])
    glass = cabin.copy()
    glass[:, 0] += np.where(glass[:, 0] < middle, 0.13, -shape.rear_pillar)
    glass[:, 1] = np.minimum(glass[:, 1], shape.height - 0.085)
    glass[[0, -1], 1] += 0.04
    edges = [shape.cowl[0] + 0.24, *shape.pillars, shape.deck[0]]
    for index in range(len(edges) - 1):
        pane = clipped(glass, 0, edges[index] + 0.035, above=True)
        pane = clipped(pane, 0, edges[index + 1] - 0.035, above=False)
        if len(pane) < 3:
            continue
        brush.polygon(surface.cabin_flank(pane, 0.01), look.glass)
        bright = clipped(pane, 1, float(pane[:, 1].min() + 0.55 * np.ptp(pane[:, 1])), above=True)
        brush.polygon(surface.cabin_flank(bright, 0.01), shade(look.glass, 1.0 + 0.22 * look.gloss))


def _paint_bed(brush: Brush, surface: Surface, look: Look) -> None:
    """Paints the open bed of a pickup: a dark floor inside its walls."""
    shape = surface.shape
    x = np.array([shape.deck[0] + 0.12, shape.length - 0.1])
    for inset, colour in ((0.06, shade(look.paint, 0.45)), (0.12, BLACK)):
        half = shape.width / 2 - inset
        y = shape.tail_height
        corners = [(x[0], y, half), (x[1], y, half), (x[1], y, -half), (x[0], y, -half)]
        brush.polygon(np.array(corners), colour)


def _paint_bed_side(brush: Brush, surface: Surface, look: Look) -> None:
    """Paints the gap between cab and bed, the bed's rail and its ribs."""
    shape = surface.shape
    start, dark = shape.deck[0] + 0.06, shade(look.paint, 0.4)
    brush.line(surface.flank([(start, shape.clearance + 0.06), (start, shape.tail_height)]), BLACK, 2)
    rail = shape.tail_height - 0.09
    brush.line(surface.flank([(start, rail), (shape.length - 0.06, rail)]), dark, 1)
    for x in np.linspace(start + 0.2, shape.length - 0.2, shape.ribs):
        foot = 0.72 if abs(x - surface.axles[1]) < 0.5 else 0.5
        brush.line(surface.flank([(x, foot), (x, rail)]), dark, 2)
