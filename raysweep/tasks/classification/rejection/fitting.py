"""Defines scores: fitted on features, made of tensors alone, so that they can be stored without pickling."""

from dataclasses import dataclass, fields
from typing import Protocol, Self

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


class TensorScore:
    """Stores a score that is a dataclass of tensors."""

    def state(self) -> dict[str, torch.Tensor]:
        """Returns its fields, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """Builds the score of such fields."""
        return cls(**tensors)
