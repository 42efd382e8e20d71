"""Defines scores: fitted on features, made of tensors alone, so that they can be stored without pickling."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import nn

from raysweep.tasks.classification.rejection.features import Features


@dataclass(frozen=True, kw_only=True, slots=True)
class FitData:
    """Holds what scores are fitted on."""

    train: Features
    labels: torch.Tensor
    """Of the training features, (N,) int64."""
    val: Features
    last: nn.Linear
    """The layer that gives the logits."""
    _fitted: dict[type, Any] = field(default_factory=dict, repr=False)

    def fit(self, kind: "type[AnyScore]") -> "AnyScore":
        """Fits a score, once: others may be made of it."""
        if kind not in self._fitted:
            self._fitted[kind] = kind.fit(self)
        fitted: AnyScore = self._fitted[kind]
        return fitted


class Score(Protocol):
    """Scores images in one way; its `state` builds it again."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,) float64 of N images."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the tensors it is made of."""
        ...

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fits the score on features."""
        ...

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """Builds the score that gave this `state`."""
        ...


AnyScore = TypeVar("AnyScore", bound=Score)
BLOCK = 1000
"""Images that are scored at once."""


class TensorScore:
    """Stores a score that is a dataclass of tensors."""

    def state(self) -> dict[str, torch.Tensor]:
        """Returns its fields, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """Builds the score of such fields."""
        return cls(**tensors)


def score_in_blocks(find: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """Scores values (N, D) by blocks, so that their distances to many images fit into memory: (N,).

    In one piece where it is exported: the number of rows is open then.
    """
    parts = [values] if torch.compiler.is_exporting() else torch.split(values, BLOCK)
    return torch.cat([find(part) for part in parts])
