"""Scores of generated images against real ones, from a judge's features and logits. Pure functions.

Kernel distance and classifier score are computed as torchmetrics does from features and logits.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from raysweep.evaluate.statistics import Lift
from raysweep.tasks.gan.judge import metrics
from raysweep.tasks.gan.judge.metrics import count_generated, kl_to_uniform, neighbourhood_scores

NUM_SUBSETS = 100
SUBSET_SIZE = 1000
NUM_PARTS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Compares generated images with as many real ones, by a judge."""

    num_images: int
    frechet_distance: float
    """Squared distance of fitted Gaussians; 0 or more, lower is better. Grows with fewer images."""
    kernel_distance: float
    """Unbiased squared maximum mean discrepancy, mean over subsets; about 0 for equal distributions."""
    kernel_distance_error: float
    """Standard error of that mean."""
    precision: float
    """Share of generated images among the real ones, in [0, 1]."""
    recall: float
    """Share of real images among the generated ones, in [0, 1]."""
    density: float
    """Mean number of real neighbourhoods around a generated image over k, 0 or more."""
    coverage: float
    """Share of real images with a generated one in their neighbourhood, in [0, 1]."""
    classifier_score: float
    """exp of the mean divergence of an image's class probabilities from the mean's, in 1..number of classes."""
    classifier_score_deviation: float
    """Standard deviation over 10 parts of the images."""
    class_counts: list[int]
    """Generated images recognised as each class."""
    num_classes_generated: int
    class_kl: float
    """Divergence of the counts from equal shares, in nats, 0 or more."""


def score_images(real_features: torch.Tensor, features: torch.Tensor, logits: torch.Tensor) -> Scores:
    """Computes all scores of images with `features` (N, D) and `logits` (N, C) against real ones with (M, D)."""
    kernel, kernel_error = kernel_distance(real_features, features)
    score, score_deviation = classifier_score(logits)
    counts = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])
    return Scores(
        num_images=len(features),
        frechet_distance=frechet_distance(real_features, features),
        kernel_distance=kernel,
        kernel_distance_error=kernel_error,
        **neighbourhood_scores(real_features, features),
        classifier_score=score,
        classifier_score_deviation=score_deviation,
        class_counts=counts.tolist(),
        num_classes_generated=int(count_generated(counts)),
        class_kl=float(kl_to_uniform(counts)),
    )


def frechet_distance(real_features: torch.Tensor, features: torch.Tensor) -> float:
    """Computes the squared Frechet distance of Gaussians fitted to features (M, D) and (N, D) (Heusel et al., 2017)."""
    return float(metrics.frechet_distance([real_features], [features]))


def kernel_distance(real_features: torch.Tensor, features: torch.Tensor) -> tuple[float, float]:
    """Computes the kernel distance of features (M, D) and (N, D) and its standard error (Binkowski et al., 2018).

    The mean over seeded subsets of 1,000 images, with the cubic kernel of the paper. The error is the standard
    deviation over subsets, scaled to the number of images: subsets overlap, and so many disjoint ones there are.
    """
    fewest = min(len(real_features), len(features))
    size = max(2, min(SUBSET_SIZE, fewest // 2))
    draw = torch.Generator().manual_seed(0)

    def choose(rows: torch.Tensor) -> torch.Tensor:
        return rows[torch.randperm(len(rows), generator=draw)[:size]].double()

    distances = torch.stack([_unbiased_mmd(choose(real_features), choose(features)) for _ in range(NUM_SUBSETS)])
    return float(distances.mean()), float(distances.std(unbiased=False)) * (size / fewest) ** 0.5


def _unbiased_mmd(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Estimates the squared maximum mean discrepancy of features (M, D) and (M, D), by k(x, y) = (x y / D + 1)^3."""

    def kernel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = (one @ other.T / one.shape[1] + 1) ** 3
        return values

    count = len(first)
    within = sum(values.sum() - values.trace() for values in (kernel(first, first), kernel(second, second)))
    return within / (count * (count - 1)) - 2 * kernel(first, second).sum() / count**2


def classifier_score(logits: torch.Tensor) -> tuple[float, float]:
    """Computes the inception score of logits (N, C), mean and deviation over 10 parts (Salimans et al., 2016)."""
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))
    scores = []
    for part in logits[order].double().chunk(NUM_PARTS):
        shares = part.softmax(dim=1)
        divergence = shares * (part.log_softmax(dim=1) - shares.mean(dim=0).log())
        scores.append(divergence.sum(dim=1).mean().exp())
    return float(torch.stack(scores).mean()), float(torch.stack(scores).std())


def bootstrap_frechet(
    real: torch.Tensor,
    fake: torch.Tensor,
    baseline: torch.Tensor,
    *,
    confidence: float = 0.95,
    num_resamples: int = 200,
    seed: int = 0,
) -> Lift:
    """Estimates the difference of the Frechet distances of two generators, with its bootstrap interval.

    Real images, and the images of either generator, are resampled with replacement (Efron & Tibshirani, 1993); both
    generators meet the same real ones. A resample has fewer distinct images, which raises every distance: the
    resampled differences are moved to have the observed one as their mean. The interval covers the choice of images
    and of noise, neither the seed of training nor the choice of the best trial.

    Args:
        real: (N, D) features of real images.
        fake: (M, D) features of the images of one generator.
        baseline: (K, D) features of the baseline's.
        confidence: nominal coverage, in (0, 1).
        num_resamples: at least 2.
        seed: of the resampling.
    """
    draw = np.random.default_rng(seed)

    def resample(features: torch.Tensor) -> torch.Tensor:
        return features[torch.from_numpy(draw.integers(0, len(features), len(features)))]

    def difference(real: torch.Tensor, fake: torch.Tensor, baseline: torch.Tensor) -> float:
        return frechet_distance(real, fake) - frechet_distance(real, baseline)

    observed = difference(real, fake, baseline)
    drawn = [difference(resample(real), resample(fake), resample(baseline)) for _ in range(num_resamples)]
    return Lift.from_resamples(observed, np.array(drawn) - np.mean(drawn) + observed, confidence, len(real))


def find_nearest(
    queries: torch.Tensor, batches: Iterable[torch.Tensor], num_nearest: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds distances and positions, (Q, num_nearest) each and nearest first, of queries (Q, D) in batches (B, D).

    Euclidean, in one pass over the batches; positions count through all of them.
    """
    distances = torch.full((len(queries), 0), torch.inf)
    positions = torch.full((len(queries), 0), -1, dtype=torch.int64)
    seen = 0
    for batch in batches:
        distances = torch.cat([distances, torch.cdist(queries, batch)], dim=1)
        positions = torch.cat([positions, torch.arange(seen, seen + len(batch)).expand(len(queries), -1)], dim=1)
        distances, order = distances.topk(min(num_nearest, distances.shape[1]), dim=1, largest=False)
        positions = positions.gather(1, order)
        seen += len(batch)
    return distances, positions
