"""Joins scores by the weakest: an image is as real as the part that finds it least so, whatever the others miss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from raysweep.tasks.classification.rejection.features import Features
from raysweep.tasks.classification.rejection.fitting import FitData, Score

LOW = 0.05


@dataclass(frozen=True)
class Weakest:
    """Scores by the smallest of several scores, in units: 0 is validation images' median, and 5 % are below -1."""

    kinds: ClassVar[tuple[type[Score], ...]]
    parts: tuple[Score, ...]
    calibration: torch.Tensor
    """(2, number of parts) float64: the median, and its distance from what 5 % are below."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,)."""
        return ((_stack(self.parts, features) - self.calibration[0]) / self.calibration[1]).amin(dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the parts' tensors, numbered, and the calibration."""
        tensors = {
            f"{number}.{name}": tensor
            for number, part in enumerate(self.parts)
            for name, tensor in part.state().items()
        }
        return {**tensors, "calibration": self.calibration}

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fits the parts to training features, and their units to validation features."""
        parts = tuple(data.fit(kind) for kind in cls.kinds)
        low, median = _stack(parts, data.val).quantile(torch.tensor([LOW, 0.5], dtype=torch.float64), dim=0)
        return cls(parts, torch.stack([median, (median - low).clamp(min=1e-6)]))

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """Builds the score from its `state`."""
        parts = tuple(
            kind.from_state(
                {
                    name.removeprefix(f"{number}."): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(f"{number}.")
                }
            )
            for number, kind in enumerate(cls.kinds)
        )
        return cls(parts, tensors["calibration"])


def join_weakest(*kinds: type[Score]) -> type[Weakest]:
    """Makes the score that is the weakest of some."""
    return type("WeakestOf" + "".join(kind.__name__ for kind in kinds), (Weakest,), {"kinds": kinds})


def _stack(parts: Sequence[Score], features: Features) -> torch.Tensor:
    """Scores by each part: (N, number of parts)."""
    return torch.stack([part.score(features) for part in parts], dim=1)
