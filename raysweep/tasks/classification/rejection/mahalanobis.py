"""Mahalanobis scores: the distance of features to the nearest class, under one covariance for all classes."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from raysweep.data.images import space_evenly
from raysweep.tasks.classification.rejection.features import Features
from raysweep.tasks.classification.rejection.fitting import FitData, TensorScore
from raysweep.tasks.classification.rejection.logits import Energy

MAX_DIRECTIONS = 512
MAX_VALUES = 20_000_000


@dataclass(frozen=True)
class Gaussian(TensorScore):
    """Measures the distance to the nearest class mean under one covariance for all classes (Mahalanobis)."""

    mean: torch.Tensor
    """(D,) float64."""
    whitening: torch.Tensor
    """(D, K) float32: brings differences of features to a covariance of 1."""
    centres: torch.Tensor
    """(num_classes, K) float64: the class means, whitened."""

    def log_distance(self, values: torch.Tensor) -> torch.Tensor:
        """Computes the logarithm (N,) of the squared distance of features (N, D)."""
        whitened = (values.double() - self.mean) @ self.whitening.double()
        distances = torch.cdist(whitened, self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        return 2 * distances.amin(dim=1).clamp(min=1e-12).log()

    @classmethod
    def fit_values(cls, values: torch.Tensor, labels: torch.Tensor) -> Self:
        """Computes class means, and the covariance around them, shrunk (Ledoit & Wolf 2004) so that it has an inverse.

        Of features wider than 512 only so many principal directions are used, once they are standardised.
        """
        values, labels = _thin_out(values, labels)
        mean, scale = values.double().mean(dim=0), values.double().std(dim=0, correction=0)
        scale = torch.where(scale > 1e-6 * scale.amax().clamp(min=1e-12), scale, 1.0)
        standard = ((values.double() - mean) / scale).numpy()
        basis = np.eye(standard.shape[1])
        if standard.shape[1] > MAX_DIRECTIONS:
            pca = PCA(min(MAX_DIRECTIONS, *standard.shape), svd_solver="randomized", iterated_power=2, random_state=0)
            basis = pca.fit(standard.astype(np.float32)).components_.T.astype(np.float64)
            standard = standard @ basis  # any basis of about the same space does: its covariance is estimated next
        classes, numbers = np.unique(labels.numpy(), return_inverse=True)
        centres = np.stack([standard[numbers == number].mean(axis=0) for number in range(len(classes))])
        precision = LedoitWolf(assume_centered=True).fit(standard - centres[numbers]).precision_
        root = np.linalg.cholesky(precision)
        whitening = (torch.from_numpy(basis @ root) / scale[:, None]).float()
        means = torch.from_numpy(centres @ root)
        return cls(mean=mean, whitening=whitening, centres=means)


@dataclass(frozen=True)
class Mahalanobis:
    """Scores by the distance of the penultimate features (Lee et al. 2018, https://arxiv.org/abs/1807.03888)."""

    gaussian: Gaussian

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,)."""
        return -self.gaussian.log_distance(self.select(features))

    @staticmethod
    def select(features: Features) -> torch.Tensor:
        """Selects the features (N, D) whose distance is measured."""
        return features.penultimate

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the Gaussian's tensors."""
        return self.gaussian.state()

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fits the training features."""
        return cls(Gaussian.fit_values(cls.select(data.train), data.labels))

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """Builds the score from the Gaussian's tensors."""
        return cls(Gaussian.from_state(tensors))


@dataclass(frozen=True)
class JointMahalanobis(Mahalanobis):
    """Scores by the distance of all layers at once: their channels' means and deviations, the penultimate features.

    Early layers tell noise and blank images, late ones other things than the classes. Lee et al. 2018 join their
    layers by a regression on known outliers; one covariance over all needs none.
    """

    @staticmethod
    def select(features: Features) -> torch.Tensor:
        """Puts all layers' features side by side."""
        return torch.cat([*features.layers, features.penultimate], dim=1)


@dataclass(frozen=True)
class JointMahalanobisEnergy:
    """Scores by the sum of joint Mahalanobis score and energy, each standardised on validation images."""

    joint: JointMahalanobis
    calibration: torch.Tensor
    """(2, 2) float64: mean and deviation of the distance and of the energy."""

    def score(self, features: Features) -> torch.Tensor:
        """Scores (N,)."""
        return ((_join(self.joint, features) - self.calibration[0]) / self.calibration[1]).sum(dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the Gaussian's tensors and the calibration."""
        return {**self.joint.state(), "calibration": self.calibration}

    @classmethod
    def fit(cls, data: FitData) -> Self:
        """Fits the training features, and brings both parts to mean 0 and deviation 1 on validation features."""
        joint = data.fit(JointMahalanobis)
        parts = _join(joint, data.val)
        return cls(joint, torch.stack([parts.mean(dim=0), parts.std(dim=0, correction=0).clamp(min=1e-6)]))

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """Builds the score from its `state`."""
        gaussian = {name: tensor for name, tensor in tensors.items() if name != "calibration"}
        return cls(JointMahalanobis.from_state(gaussian), tensors["calibration"])


def _join(joint: JointMahalanobis, features: Features) -> torch.Tensor:
    """Joins both scores: (N, 2)."""
    return torch.stack([joint.score(features), Energy().score(features)], dim=1)


def _thin_out(values: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Takes evenly spaced images where their features would take too much memory: at most 20 million values."""
    most = max(1000, MAX_VALUES // values.shape[1])
    rows = torch.from_numpy(space_evenly(len(values), most))
    return values[rows], labels[rows]
