"""Scores of the logits alone: nothing is fitted."""

from dataclasses import dataclass
from typing import Self

import torch

from raysweep.tasks.classification.rejection.features import Features
from raysweep.tasks.classification.rejection.fitting import FitData, TensorScore


@dataclass(frozen=True)
class MaximumSoftmax(TensorScore):
    """Scores by the largest softmax probability (Hendrycks & Gimpel 2017, https://arxiv.org/abs/1610.02136)."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,) in 0..1."""
        return self.score_logits(features.logits)

    @staticmethod
    def score_logits(logits: torch.Tensor) -> torch.Tensor:
        """Scores (N,) in 0..1 of logits (N, num_classes)."""
        return logits.double().softmax(dim=1).amax(dim=1)

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Builds the score, which has nothing to fit."""
        return cls()


@dataclass(frozen=True)
class Energy(TensorScore):
    """Scores by the negative free energy, log sum exp of the logits (Liu et al. 2020, https://arxiv.org/abs/2010.03759)."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,)."""
        return features.logits.double().logsumexp(dim=1)

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Builds the score, which has nothing to fit."""
        return cls()
