"""Scores how real an image is, from a classifier's features: higher is more real. The candidates of a detector.

Everything is computed in float64 on the CPU.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from raysweep.data.images import space_evenly
from raysweep.tasks.classification.rejection.features import Features
from raysweep.tasks.classification.rejection.fitting import FitData, Score, TensorScore, score_in_blocks
from raysweep.tasks.classification.rejection.logits import Energy, MaximumSoftmax
from raysweep.tasks.classification.rejection.mahalanobis import JointMahalanobis, JointMahalanobisEnergy, Mahalanobis
from raysweep.tasks.classification.rejection.texture_scores import NearestTexture, Texture
from raysweep.tasks.classification.rejection.weakest import join_weakest

NUM_NEIGHBOURS = 50
MAX_NEIGHBOUR_IMAGES = 10_000
MAX_NEIGHBOUR_VALUES = 4_000_000


@dataclass(frozen=True)
class NearestNeighbours(TensorScore):
    """Scores by the negative distance of the penultimate features, at length 1, to the 50th nearest training image's.

    Sun et al. 2022, https://arxiv.org/abs/2204.06507.
    """

    bank: torch.Tensor
    """(M, D) float32, rows of length 1."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,) in -2..0."""
        bank = self.bank.double()
        return score_in_blocks(lambda part: -_find_distance(part, bank), _normalise(features.penultimate).double())

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Keeps the training features, or evenly spaced ones where there are many."""
        values = data.train.penultimate
        most = min(MAX_NEIGHBOUR_IMAGES, max(NUM_NEIGHBOURS, MAX_NEIGHBOUR_VALUES // values.shape[1]))
        return cls(bank=_normalise(values[torch.from_numpy(space_evenly(len(values), most))]))


@dataclass(frozen=True)
class VirtualLogit(TensorScore):
    """Scores by ViM: energy less the scaled length of the features outside their principal space.

    Wang et al. 2022, https://arxiv.org/abs/2203.10807.
    """

    origin: torch.Tensor
    """(D,) float64: where the features give the logits 0."""
    residual: torch.Tensor
    """(D, R) float64: an orthonormal basis of what is outside the principal space."""
    alpha: torch.Tensor
    """() float64: brings the residual to the scale of the largest logit."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,)."""
        length = ((features.penultimate.double() - self.origin) @ self.residual).norm(dim=1)
        scores: torch.Tensor = features.logits.double().logsumexp(dim=1) - self.alpha * length
        return scores

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fits a principal space of half of the dimensions, or the paper's 512 or 1000 where features are wide."""
        weight = data.last.weight.detach().double().cpu()
        bias = data.last.bias.detach().double().cpu()
        origin = -torch.linalg.pinv(weight) @ bias
        centred = data.train.penultimate.double() - origin
        width = centred.shape[1]
        principal = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
        _, directions = torch.linalg.eigh(centred.T @ centred / len(centred))  # smallest eigenvalue first
        residual = directions[:, : width - principal].contiguous()
        length = (centred @ residual).norm(dim=1).mean().clamp(min=1e-12)
        return cls(origin=origin, residual=residual, alpha=data.train.logits.double().amax(dim=1).mean() / length)


def _find_distance(values: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Computes the distance (N,) of points (N, D) to the 50th nearest of a bank (M, D), all of length 1."""
    products = (values @ bank.T).topk(min(NUM_NEIGHBOURS, len(bank)), dim=1).values[:, -1]
    return (2 - 2 * products).clamp(min=0).sqrt()


def _normalise(values: torch.Tensor) -> torch.Tensor:
    normalised: torch.Tensor = nn.functional.normalize(values.float(), dim=1)
    return normalised


SCORES: dict[str, type[Score]] = {
    "maximum softmax": MaximumSoftmax,
    "energy": Energy,
    "Mahalanobis": Mahalanobis,
    "nearest neighbours": NearestNeighbours,
    "ViM": VirtualLogit,
    "joint Mahalanobis": JointMahalanobis,
    "joint Mahalanobis and energy": JointMahalanobisEnergy,
    "texture": Texture,
    "nearest texture": NearestTexture,
    "weakest of textures": join_weakest(Texture, NearestTexture),
    "weakest of nearest neighbours and textures": join_weakest(NearestNeighbours, Texture, NearestTexture),
    "weakest of joint Mahalanobis with energy and textures": join_weakest(
        JointMahalanobisEnergy, Texture, NearestTexture
    ),
    "weakest of joint Mahalanobis and textures": join_weakest(JointMahalanobis, Texture, NearestTexture),
    # Of earlier versions, which are not fitted any more.
    "weakest of nearest neighbours and texture": join_weakest(NearestNeighbours, Texture),
    "weakest of joint Mahalanobis with energy and texture": join_weakest(JointMahalanobisEnergy, Texture),
    "weakest of joint Mahalanobis and texture": join_weakest(JointMahalanobis, Texture),
}
"""All that a file may hold."""

CANDIDATES = (
    "weakest of textures",
    "weakest of nearest neighbours and textures",
    "weakest of joint Mahalanobis with energy and textures",
    "weakest of joint Mahalanobis and textures",
)
"""Those that a detector is chosen of: all see the texture, as a network that has learned little misses even noise."""
