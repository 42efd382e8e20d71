"""Scores images by what is measured without the network: the same after one epoch as after many."""

from dataclasses import dataclass
from typing import Self

import torch

from raysweep.data.images import space_evenly
from raysweep.tasks.classification.rejection.features import Features
from raysweep.tasks.classification.rejection.fitting import FitData, TensorScore, score_in_blocks
from raysweep.tasks.classification.rejection.mahalanobis import Mahalanobis

MAX_IMAGES = 5000
WHITENING = 0.75
"""0 leaves each direction its spread, 1 brings all to a deviation of 1: between them neither a few directions decide,
nor those in which images hardly differ."""
LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Texture(Mahalanobis):
    """Scores by the distance of the texture to the nearest class."""

    @staticmethod
    def select(features: Features) -> torch.Tensor:
        """Selects the texture, (N, P)."""
        return features.texture


@dataclass(frozen=True)
class NearestTexture(TensorScore):
    """Scores by the distance of the texture to that of the nearest training image.

    Photographs and drawings are of many kinds, whose textures no Gaussian describes. But one image of noise among those
    of training, and all noise is near: so this is for use beside `Texture`, which hardly minds.
    """

    mean: torch.Tensor
    """(P,) float64."""
    directions: torch.Tensor
    """(P, K) float32: principal directions, each divided by a power of its deviation."""
    bank: torch.Tensor
    """(M, K) float32: training images along these."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,)."""
        bank = self.bank.double()
        values = (features.texture.double() - self.mean) @ self.directions.double()
        return score_in_blocks(lambda part: -_find_distance(part, bank), values)

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Keeps the training images, or evenly spaced ones where there are many."""
        texture = data.train.texture.double()
        mean, rank = texture.mean(dim=0), min(len(texture) - 1, texture.shape[1])
        texture = texture - mean
        _, lengths, directions = torch.linalg.svd(texture, full_matrices=False)
        lengths, directions = lengths[:rank], directions[:rank]  # beyond, any direction would do
        deviations = (lengths / len(texture) ** 0.5).clamp(min=LEAST_DEVIATION)
        scaled = (directions.T / deviations**WHITENING).float()
        rows = torch.from_numpy(space_evenly(len(texture), MAX_IMAGES))
        return cls(mean=mean, directions=scaled, bank=(texture[rows] @ scaled.double()).float())


def _find_distance(values: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Computes the distance (N,) of points (N, K) to the nearest of a bank (M, K)."""
    squares = (bank.square().sum(dim=1) - 2 * values @ bank.T).amin(dim=1) + values.square().sum(dim=1)
    return squares.clamp(min=0).sqrt()
