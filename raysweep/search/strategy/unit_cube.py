"""Maps a search space to the unit cube: rows are points, columns are keys, values are positions in [0, 1]."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep.distributions import When
from raysweep.trial_result import Params

Array = NDArray[np.float64]
LARGEST_MOVE, SMALLEST_MOVE = 10**-0.5, 10**-2.0
"""Range of the standard deviation of a perturbation, as a share of a key's range."""


class UnitCube:
    """Draws points of a space and converts them to a model's features and to parameters.

    A number's position is linear or logarithmic in its range, widened by half a step at both ends where there are
    steps, so that each has an equal share; a choice's position is the middle of its share. NaN: the key does not exist
    at the point.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], conditions: Sequence[When] = ()) -> None:
        self.conditions = tuple(conditions)
        self.distributions = dict(space)
        for condition in self.conditions:
            self.distributions |= condition.space
        self.keys = tuple(self.distributions)
        self._unconditional = frozenset(space)
        widths = [len(d.choices) if isinstance(d, CategoricalDistribution) else 1 for d in self.distributions.values()]
        self.feature_keys = np.repeat(np.arange(len(self.keys)), widths)
        """Index of the key of each column of the features."""
        self._widths = np.repeat(widths, widths)
        self._choices = np.concatenate(
            [
                np.arange(width) if isinstance(d, CategoricalDistribution) else [-1]
                for width, d in zip(widths, self.distributions.values(), strict=True)
            ]
        )

    def draw(self, random: np.random.Generator, num: int) -> Array:
        """Draws points uniformly: (num, keys)."""
        return self._snap(random.random((num, len(self.keys))))

    def perturb(self, random: np.random.Generator, point: Array, num: int) -> Array:
        """Draws points near `point` (keys,), numbers moved, some choices drawn anew: (num, keys).

        In half of them every key may move, in the others about a third of the keys.
        """
        shape = (num, len(self.keys))
        fresh = random.random(shape)
        scale = np.exp(random.uniform(math.log(SMALLEST_MOVE), math.log(LARGEST_MOVE), (num, 1)))
        moved = np.clip(point + scale * random.standard_normal(shape), 0.0, 1.0)
        for column, distribution in enumerate(self.distributions.values()):
            if isinstance(distribution, CategoricalDistribution):
                redraw = random.random(num) < 0.3
                moved[:, column] = np.where(redraw, fresh[:, column], point[column])
        moves = random.random(shape) < np.where(random.random((num, 1)) < 0.5, 1.0, 1 / 3)
        rows = np.where(moves, moved, point)
        return self._snap(np.where(np.isnan(rows), fresh, rows))

    def to_row(self, params: Mapping[str, Any]) -> Array:
        """Converts parameters to a point (keys,); numbers outside the space are clipped, unknown choices are NaN."""
        row = np.full(len(self.keys), np.nan)
        for column, (key, distribution) in enumerate(self.distributions.items()):
            if key in params:
                row[column] = _to_position(distribution, params[key])
        return row

    def to_params(self, row: Array) -> Params:
        """Converts a point (keys,) to its parameters, those only that exist there."""
        return {
            key: _to_value(distribution, position)
            for (key, distribution), position in zip(self.distributions.items(), row.tolist(), strict=True)
            if not math.isnan(position)
        }

    def to_features(self, rows: Array) -> Array:
        """Converts points (n, keys) to features (n, features): positions, and a column for each value of a choice."""
        columns = rows[:, self.feature_keys]
        chosen = np.floor(columns * self._widths) == self._choices  # false where NaN
        numbers = np.where(np.isnan(columns), 0.5, columns)
        return np.where(self._choices < 0, numbers, math.sqrt(0.5) * chosen)

    def _snap(self, rows: Array) -> Array:
        """Moves every position to that of a value that exists; NaN where its key does not."""
        rows = rows.copy()
        for column, distribution in enumerate(self.distributions.values()):
            if isinstance(distribution, CategoricalDistribution):
                width = len(distribution.choices)
                rows[:, column] = (np.clip(np.floor(rows[:, column] * width), 0, width - 1) + 0.5) / width
            else:
                rows[:, column] = _snap_positions(distribution, rows[:, column])
        exists = {key: np.full(len(rows), key in self._unconditional) for key in self.keys}
        for condition in self.conditions:
            choices = self.distributions[condition.key]
            assert isinstance(choices, CategoricalDistribution)
            opening = [condition.holds({condition.key: choice}) for choice in choices.choices]
            taken = np.floor(rows[:, self.keys.index(condition.key)] * len(opening)).astype(int)
            for key in condition.space:
                exists[key] |= np.asarray(opening)[taken]
        for column, key in enumerate(self.keys):
            rows[~exists[key], column] = np.nan
        return rows


def _snap_positions(distribution: BaseDistribution, positions: Array) -> Array:
    """Moves positions to those of the nearest values that exist."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None:
        return positions
    low, high = _bounds(distribution)
    values = low + positions * (high - low)
    values = np.exp(values) if distribution.log else values
    values = distribution.low + np.round((values - distribution.low) / distribution.step) * distribution.step
    values = np.clip(values, distribution.low, distribution.high)
    return np.asarray(((np.log(values) if distribution.log else values) - low) / (high - low))


def _bounds(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Returns the values at positions 0 and 1, their logarithms where the distribution is logarithmic."""
    margin = 0.5 * (distribution.step or 0.0)
    low, high = distribution.low - margin, distribution.high + margin
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def _to_position(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        known = value in distribution.choices
        return (distribution.choices.index(value) + 0.5) / len(distribution.choices) if known else math.nan
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    clipped = min(max(value, distribution.low), distribution.high)
    position = (math.log(clipped) if distribution.log else clipped) - low
    return position / (high - low) if high > low else 0.5


def _to_value(distribution: BaseDistribution, position: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(position * len(distribution.choices)), len(distribution.choices) - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    value = low + position * (high - low)
    value = math.exp(value) if distribution.log else value
    if distribution.step is not None:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)
