"""Scores of generated images against real ones, from a judge's features. Pure functions.

The Frechet distance is computed as torchmetrics does; it costs each trial's process seconds to import.
"""

from collections.abc import Sequence

import torch

from raysweep.config import require

NEIGHBOURS = 5
GENERATED_SHARE = 0.1
"""A class counts as generated with this share of the images that equal shares would give it: 1 % for 10 classes."""
BLOCK_ROWS = 1000


def score_generated(
    real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor], class_counts: torch.Tensor
) -> dict[str, torch.Tensor | float]:
    """Computes what a generator is judged by after an epoch; see GanConfig.metrics.

    Args:
        real: features (B, D) of real images, in batches.
        fake: of generated ones.
        class_counts: generated images by the class that the judge sees in them, (num_classes,) int64.
    """
    scores = neighbourhood_scores(torch.cat(list(real)), torch.cat(list(fake)))
    return {
        "frechet_distance": frechet_distance(real, fake),
        "coverage": scores["coverage"],
        "density": scores["density"],
        "num_classes_generated": count_generated(class_counts),
        "class_kl": kl_to_uniform(class_counts),
    }


def frechet_distance(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Computes the squared Frechet distance of Gaussians fitted to features, in float64 (Heusel et al., 2017).

    0 or more but for rounding; NaN where features are not finite. With fewer images than some thousands it is biased
    upwards: compare values of equal numbers of images only.

    Args:
        real: features (B, D) of real images, in batches.
        fake: of generated ones.

    Raises:
        ValueError: fewer than two images of either kind.
    """
    (real_mean, real_covariance), (fake_mean, fake_covariance) = _fit_gaussian(real), _fit_gaussian(fake)
    if not (real_covariance.isfinite().all() and fake_covariance.isfinite().all()):
        return torch.full_like(real_mean[0], torch.nan)
    overlap = torch.linalg.eigvals(real_covariance @ fake_covariance).sqrt().real.sum()
    spread = real_covariance.trace() + fake_covariance.trace()
    distance: torch.Tensor = (real_mean - fake_mean).square().sum() + spread - 2 * overlap
    return distance


def _fit_gaussian(batches: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes mean (D,) and covariance (D, D) of features (B, D), in float64."""
    count = sum(len(features) for features in batches)
    require(count >= 2, "a Frechet distance needs at least 2 images of either kind", count)
    num_features, device = batches[0].shape[1], batches[0].device
    total = torch.zeros(num_features, dtype=torch.float64, device=device)
    products = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)
    for features in batches:
        total += features.double().sum(dim=0)
        products += features.double().t() @ features.double()
    mean = (total / count)[None]
    return mean[0], (products - count * (mean.t() @ mean)) / (count - 1)


def count_generated(counts: torch.Tensor) -> torch.Tensor:
    """Counts the classes, whose images are counted in (C,), that are generated: see GENERATED_SHARE."""
    return (counts >= (GENERATED_SHARE * counts.sum() / len(counts)).clamp(min=1)).sum()


def kl_to_uniform(counts: torch.Tensor) -> torch.Tensor:
    """Computes the divergence of counts (C,) from equal shares: 0 nats for equal ones, log C for one class; float64."""
    shares = counts.double() / counts.sum()
    divergence: torch.Tensor = torch.special.xlogy(shares, shares * len(counts)).sum()
    return divergence


@torch.no_grad()
def neighbourhood_scores(real: torch.Tensor, fake: torch.Tensor, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Computes precision, recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020) of features.

    The neighbourhood of an image is the ball that reaches its k-th nearest neighbour of the same kind. Precision:
    the share of generated images that lie in a real one's; recall: of real images that lie in a generated one's;
    density: how many real ones' a generated image lies in, on average, over k; coverage: the share of real images
    with a generated one in theirs.

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
    """Computes the distance (N,) of each row of features (N, D) to its k-th nearest other row."""
    rank = min(neighbours, len(features) - 1) + 1  # the nearest of all is the row itself
    blocks = [torch.cdist(rows, features).kthvalue(rank, dim=1).values for rows in torch.split(features, BLOCK_ROWS)]
    return torch.cat(blocks)
