"""A pin-hole camera and a brush: polygons given in metres round a car, painted on a Pillow canvas."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

Points = NDArray[np.float64]
Colour = tuple[int, int, int]


def shade(colour: Colour, factor: float) -> Colour:
    """Shades a colour, `factor` times as bright: darkened below 1, mixed with white above it."""
    if factor <= 1.0:
        red, green, blue = (int(channel * factor) for channel in colour)
    else:
        white = 255.0 * min(factor - 1.0, 1.0)
        red, green, blue = (int(channel * max(2.0 - factor, 0.0) + white) for channel in colour)
    return red, green, blue


@dataclass(frozen=True)
class Camera:
    """A camera looking at the car's middle. Lengths in metres, angles in radians, canvas in pixels."""

    target: tuple[float, float]
    """(x, y) of the point of the car that the camera looks at."""
    centre_px: tuple[float, float]
    """Where on the canvas that point appears."""
    scale_px: float
    """Pixels for a metre at the target."""
    distance: float
    yaw: float
    """0 is a pure side view; positive shows the front, negative the rear."""
    pitch: float
    """How far the camera looks down."""
    roll: float
    shear: float
    flip: bool
    """Mirror the picture, so that the car faces right."""

    @cached_property
    def _matrix(self) -> Points:
        """Returns the projection as a matrix (4, 3) on homogeneous points (N, 4)."""
        sine, cosine = np.sin(self.yaw), np.cos(self.yaw)
        level, upright = np.array([-sine, 0.0, cosine]), np.array([0.0, 1.0, 0.0])
        across = np.array([cosine, 0.0, sine])
        up = np.cos(self.pitch) * upright - np.sin(self.pitch) * level
        towards = np.cos(self.pitch) * level + np.sin(self.pitch) * upright
        across = across + self.shear * up
        up = up + np.tan(self.roll) * across
        zoom = self.scale_px * self.distance
        rows = np.zeros((3, 4))
        rows[2, :3], rows[2, 3] = -towards, self.distance
        rows[0, :3], rows[1, :3] = (-zoom if self.flip else zoom) * across, -zoom * up
        target = np.array([*self.target, 0.0])
        rows[:, 3] -= rows[:, :3] @ target
        rows[0] += self.centre_px[0] * rows[2]
        rows[1] += self.centre_px[1] * rows[2]
        return rows.T.copy()

    def project(self, points: Points) -> Points:
        """Projects points (N, 3) in metres to positions (N, 2) in pixels of the canvas."""
        matrix = self._matrix
        flat = points @ matrix[:3] + matrix[3]
        return np.asarray(flat[:, :2] / flat[:, 2:])


@dataclass(frozen=True)
class Brush:
    """Paints shapes given in metres."""

    draw: ImageDraw.ImageDraw
    camera: Camera

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fills the polygon through points (N, 3); fewer than three paint nothing."""
        if len(points) >= 3:
            self.draw.polygon(self.camera.project(points).ravel().tolist(), fill=colour)

    def line(self, points: Points, colour: Colour, width: int = 1) -> None:
        """Draws the open line through points (N, 3); width in pixels of the canvas."""
        self.draw.line(self.camera.project(points).ravel().tolist(), fill=colour, width=width)


def rounded(outline: ArrayLike, softness: float, passes: int = 2) -> Points:
    """Rounds an open outline (N, 2): its corners are cut (Chaikin 1974); its two ends stay where they are."""
    line = np.asarray(outline, dtype=np.float64)
    for _ in range(passes):
        near = (1.0 - softness) * line[:-1] + softness * line[1:]
        far = softness * line[:-1] + (1.0 - softness) * line[1:]
        line = np.concatenate([line[:1], np.stack([near, far], axis=1).reshape(-1, 2)[1:-1], line[-1:]])
    return line


def clipped(polygon: Points, axis: int, bound: float, *, above: bool) -> Points:
    """Clips a polygon (N, 2) to one side of `bound` along an axis; may be empty (0, 2)."""
    sign = 1.0 if above else -1.0
    corners = polygon.tolist()
    kept: list[tuple[float, float]] = []
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        inside, outside = sign * (start[axis] - bound), sign * (end[axis] - bound)
        if inside >= 0:
            kept.append((start[0], start[1]))
        if inside * outside < 0:
            share = inside / (inside - outside)
            kept.append((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
    return np.array(kept).reshape(-1, 2)
