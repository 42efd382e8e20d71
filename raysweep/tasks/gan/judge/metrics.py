"""Metrics of generated images for the search: torchmetrics whose states merge over batches and workers."""

import torch
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from raysweep.tasks.gan.judge.network import NUM_FEATURES

NEIGHBOURS = 5
GENERATED_SHARE = 0.1
"""A class counts as generated with this share of the images that equal shares would give it: 1 % for 10 classes."""
BLOCK_ROWS = 1000


class GenerationMetrics(MetricCollection):
    """What a generator is judged by after an epoch.

    `frechet_distance`, `coverage` and `density` are updated with real and generated features, (B, D) each, and
    `num_classes_generated` with the logits (B, num_classes) of generated images; it also reports `class_kl`, the
    divergence of the histogram of their classes from equal shares, in nats.
    """

    def __init__(self, num_classes: int, num_features: int = NUM_FEATURES) -> None:
        super().__init__(
            {
                "frechet_distance": FrechetDistance(num_features),
                "coverage": Coverage(),
                "density": Density(),
                "num_classes_generated": ClassesGenerated(num_classes),
            },
            compute_groups=False,
        )


class FrechetDistance(FrechetInceptionDistance):
    """The squared Frechet distance of two Gaussians fitted to features, in float64 (Heusel et al., 2017).

    With fewer images than some thousands it is biased upwards: compare values of equal numbers of images only.
    """

    def __init__(self, num_features: int = NUM_FEATURES) -> None:
        super().__init__(feature=_Given(num_features))
        self.orig_dtype = torch.float64

    def update(self, real_features: torch.Tensor, fake_features: torch.Tensor) -> None:  # type: ignore[override]
        """Takes the features (B, D) of real and of generated images; either may be of none."""
        super().update(real_features.double(), real=True)
        super().update(fake_features.double(), real=False)

    def compute(self) -> torch.Tensor:
        """The distance, 0 or more but for rounding; NaN where features are not finite."""
        if not (self.real_features_cov_sum.isfinite().all() and self.fake_features_cov_sum.isfinite().all()):
            return torch.full_like(self.fake_features_sum[0], torch.nan)
        distance: torch.Tensor = super().compute()
        return distance


class _Given(nn.Module):
    """Stands where torchmetrics expects a network: its images are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


class _Neighbourhood(Metric):
    """Keeps all features; a few thousand images of either kind."""

    full_state_update = False
    higher_is_better = True
    real: list[torch.Tensor]
    fake: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, real_features: torch.Tensor, fake_features: torch.Tensor) -> None:
        """Takes the features (B, D) of real and of generated images."""
        self.real.append(real_features)
        self.fake.append(fake_features)

    def _scores(self) -> dict[str, float]:
        return neighbourhood_scores(dim_zero_cat(self.real), dim_zero_cat(self.fake))


class Coverage(_Neighbourhood):
    """The share of real images that have a generated one in their neighbourhood (Naeem et al., 2020)."""

    def compute(self) -> torch.Tensor:
        """In [0, 1]."""
        return torch.tensor(self._scores()["coverage"], dtype=torch.float64)


class Density(_Neighbourhood):
    """How many neighbourhoods of real images a generated one lies in, on average, over k (Naeem et al., 2020)."""

    def compute(self) -> torch.Tensor:
        """0 or more, about 1 for real images; it may exceed 1."""
        return torch.tensor(self._scores()["density"], dtype=torch.float64)


class ClassesGenerated(Metric):
    """The classes that generated images are recognised as."""

    full_state_update = False
    counts: torch.Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, fake_logits: torch.Tensor) -> None:
        """Takes the logits (B, num_classes) of generated images."""
        self.counts += torch.bincount(fake_logits.argmax(dim=1), minlength=len(self.counts))

    def compute(self) -> dict[str, torch.Tensor]:
        """`num_classes_generated` and `class_kl`."""
        return {"num_classes_generated": count_generated(self.counts), "class_kl": kl_to_uniform(self.counts)}


def count_generated(counts: torch.Tensor) -> torch.Tensor:
    """How many of the classes, whose images are counted in (C,), are generated: see GENERATED_SHARE."""
    return (counts >= (GENERATED_SHARE * counts.sum() / len(counts)).clamp(min=1)).sum()


def kl_to_uniform(counts: torch.Tensor) -> torch.Tensor:
    """The divergence of counts (C,) from equal shares in nats, float64: 0 for equal counts, log C for one class."""
    shares = counts.double() / counts.sum()
    divergence: torch.Tensor = torch.special.xlogy(shares, shares * len(counts)).sum()
    return divergence


@torch.no_grad()
def neighbourhood_scores(real: torch.Tensor, fake: torch.Tensor, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020) of features.

    The neighbourhood of an image is the ball that reaches its k-th nearest neighbour of the same kind. Precision:
    the share of generated images that lie in a real one's; recall: of real images that lie in a generated one's;
    density and coverage: see those metrics.

    Args:
        real: (N, D) features of real images.
        fake: (M, D) features of generated images.
        neighbours: k, at least 1; with fewer other images than k, all of them.
    """
    real, fake = real.double(), fake.double()
    real_radii, fake_radii = _radii(real, neighbours), _radii(fake, neighbours)
    num_balls = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    num_recalled, num_covered = 0, 0
    for rows, radii in zip(torch.split(real, BLOCK_ROWS), torch.split(real_radii, BLOCK_ROWS), strict=True):
        distances = torch.cdist(rows, fake)
        inside = distances <= radii[:, None]
        num_balls += inside.sum(dim=0)
        num_covered += int(inside.any(dim=1).sum())
        num_recalled += int((distances <= fake_radii).any(dim=1).sum())
    return {
        "precision": float((num_balls > 0).double().mean()),
        "recall": num_recalled / len(real),
        "density": float(num_balls.double().mean()) / neighbours,
        "coverage": num_covered / len(real),
    }


def _radii(features: torch.Tensor, neighbours: int) -> torch.Tensor:
    """The distance (N,) of each row of features (N, D) to its k-th nearest other row."""
    rank = min(neighbours, len(features) - 1) + 1  # the nearest of all is the row itself
    blocks = [torch.cdist(rows, features).kthvalue(rank, dim=1).values for rows in torch.split(features, BLOCK_ROWS)]
    return torch.cat(blocks)
