"""The three-dimensional surface of a car: its side outline extruded across, narrowed at the ends."""

import numpy as np
from numpy.typing import ArrayLike

from raysweep.data.drawing.camera import Points, rounded
from raysweep.data.drawing.shapes import CarShape


class Surface:
    """Turns (x, y) in the car's side view into points in space; z is 0 in the car's middle plane.

    Lengths in metres.
    """

    def __init__(self, shape: CarShape) -> None:
        self.shape = shape
        self.bumper = (shape.clearance + 0.11, shape.clearance + 0.33)
        """Lower and upper edge of both bumpers."""
        self.axles = (shape.front_overhang, shape.front_overhang + shape.wheelbase)
        self.body = rounded(_body_outline(shape), shape.softness)
        """The body without the cabin, from the front's foot over bonnet and deck to the rear's foot."""
        self.cabin = rounded(_cabin_outline(shape), shape.softness)
        """The cabin, from the windscreen's foot over the roof to the rear window's foot."""
        top_of_nose = int(np.argmax(self.body[:, 1] >= shape.nose_height - 0.02))
        self.front = self.body[: top_of_nose + 1]
        top_of_tail = int(np.argmax(self.body[:, 0] >= shape.length - 0.2))
        self.rear = self.body[top_of_tail:]

    def half_width(self, x: ArrayLike) -> Points:
        """Computes half the body's width at x: narrower towards both bumpers."""
        ends = np.minimum(np.abs(2.0 * np.asarray(x, dtype=np.float64) / self.shape.length - 1.0), 1.0)
        power, depth = (7.0, 0.24) if self.shape.softness > 0.1 else (16.0, 0.1)
        return np.asarray(self.shape.width / 2 * (1.0 - depth * ends**power))

    def belt(self, x: ArrayLike) -> Points:
        """Computes the height at x of the line on which the side windows stand."""
        cowl, deck = self.shape.cowl, self.shape.deck
        return np.asarray(np.interp(np.asarray(x, dtype=np.float64), (cowl[0], deck[0]), (cowl[1], deck[1])))

    def flank(self, outline: ArrayLike, out: float = 0.0) -> Points:
        """Puts points (N, 2) on the body's near side, `out` metres off it: (N, 3)."""
        flat = np.asarray(outline, dtype=np.float64).reshape(-1, 2)
        return _lifted(flat, self.half_width(flat[:, 0]) + out)

    def cabin_flank(self, outline: ArrayLike, out: float = 0.0) -> Points:
        """Puts points on the cabin's near side as `flank` does; it leans inwards towards the roof."""
        flat = np.asarray(outline, dtype=np.float64).reshape(-1, 2)
        belt = self.belt(flat[:, 0])
        lean = 1.0 - 0.19 * np.clip((flat[:, 1] - belt) / (self.shape.height - belt), 0.0, 1.0)
        return _lifted(flat, self.half_width(flat[:, 0]) * lean * 0.98 + out)

    def end(self, across: ArrayLike, heights: ArrayLike, *, front: bool) -> Points:
        """Puts points on the front or the rear face: across in [-1, 1] (1: the near side), heights (N,)."""
        edge = self.front if front else self.rear[::-1]
        y = np.asarray(heights, dtype=np.float64)
        x = np.interp(y, edge[:, 1], edge[:, 0])
        return np.column_stack([x, y, np.asarray(across) * self.half_width(x)])

    def end_x(self, height: float, *, front: bool) -> float:
        """Computes x of the front or the rear face at a height."""
        return float(self.end([0.0], [height], front=front)[0, 0])


def _lifted(flat: Points, depth: Points) -> Points:
    points = np.empty((len(flat), 3))
    points[:, :2], points[:, 2] = flat, depth
    return points


def _body_outline(shape: CarShape) -> Points:
    low, nose, tail, length = shape.clearance, shape.nose_height, shape.tail_height, shape.length
    front = [
        (0.16, low),
        (0.05, low + 0.08),
        (0.0, low + 0.17),
        (0.01, low + 0.33),
        (0.07, nose - 0.09),
        (0.2, nose),
    ]
    middle_x = 0.45 * shape.cowl[0]
    bonnet = [(middle_x, nose + 0.62 * (shape.cowl[1] - nose)), shape.cowl]
    if shape.body == "pickup":
        step = [(shape.deck[0] + 0.04, tail), (length - 0.03, tail), (length - 0.02, low + 0.36)]
    else:
        step = [(length - 0.16, tail), (length - 0.06, tail - 0.08), (length - 0.03, low + 0.39)]
    rear = [
        (length, low + 0.31),
        (length, low + 0.17),
        (length - 0.06, low + 0.1),
        (length - 0.18, low + 0.03),
    ]
    return np.array([*front, *bonnet, shape.deck, *step, *rear])


def _cabin_outline(shape: CarShape) -> Points:
    front, rear = shape.roof
    top = shape.height
    roof = [(front, top - 0.05), (front + 0.35 * (rear - front), top), (rear, top - 0.03)]
    if shape.body == "hatchback":
        roof.append((rear + 0.45 * (shape.deck[0] - rear), top - 0.14))
    return np.array([shape.cowl, *roof, shape.deck])
