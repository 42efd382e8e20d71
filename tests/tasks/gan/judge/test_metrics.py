"""The metrics of the search: right by independent computations, and exact under any batches and sharding."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torchmetrics.image.fid import FrechetInceptionDistance

from raysweep.tasks.gan.judge.metrics import (
    count_generated,
    frechet_distance,
    kl_to_uniform,
    neighbourhood_scores,
    score_generated,
)
from raysweep.train.metrics import Sums, add_up, get_batches, get_sum

SIZE = 8


def features(num: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(num, SIZE, generator=torch.Generator().manual_seed(seed)) + shift


def count(real: torch.Tensor, fake: torch.Tensor, logits: torch.Tensor) -> Sums:
    classes = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])
    return {"real": [real], "fake": [fake], "class_counts": classes}


def score(sums: Sums) -> dict[str, float]:
    scores = score_generated(get_batches(sums, "real"), get_batches(sums, "fake"), get_sum(sums, "class_counts"))
    return {name: float(value) for name, value in scores.items()}


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    """For commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    draw = np.random.default_rng(0)
    scales, other, shift = draw.uniform(0.5, 2, SIZE), draw.uniform(0.5, 2, SIZE), draw.normal(size=SIZE)
    rotation, _ = np.linalg.qr(draw.normal(size=(SIZE, SIZE)))
    white = draw.normal(size=(4000, SIZE))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T  # covariance exactly 1
    real, fake = torch.from_numpy(white * scales @ rotation), torch.from_numpy((white * other) @ rotation + shift)
    expected = (shift**2).sum() + ((scales - other) ** 2).sum()
    assert float(frechet_distance([real], [fake])) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_equal_sets_is_0_and_of_collapsed_ones_is_finite() -> None:
    real = features(100, 0)
    assert float(frechet_distance([real], [real.flip(0)])) == pytest.approx(0, abs=1e-6)
    expected = float((real.double().mean(dim=0) - 1).square().sum() + real.double().var(dim=0).sum())
    assert float(frechet_distance([real], [torch.ones(100, SIZE)])) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_features_that_are_not_finite_is_nan() -> None:
    real = features(50, 0)
    assert math.isnan(frechet_distance([real], [real * torch.nan]))


def test_frechet_distance_of_single_images_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images of either kind, got 1"):
        frechet_distance([features(1, 0)], [features(5, 0)])


@pytest.mark.parametrize("size", [7, 500])
def test_frechet_distance_is_torchmetrics_to_the_last_digit(size: int) -> None:
    class Given(torch.nn.Module):
        num_features = SIZE

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

    real, fake = features(300, 0).split(size), features(200, 1, shift=0.3).split(size)
    theirs = FrechetInceptionDistance(feature=Given())
    for parts, is_real in ((real, True), (fake, False)):
        for part in parts:
            theirs.update(part.double(), real=is_real)
    assert float(frechet_distance(real, fake)) == float(theirs.compute())


@pytest.mark.parametrize("block", [7, 1000])
def test_neighbourhood_scores_are_those_of_sklearn_neighbours(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.tasks.gan.judge.metrics.BLOCK_ROWS", block)
    real, fake, k = features(80, 0), features(60, 1, shift=0.7, scale=0.8), 3

    def radii(points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        distances: npt.NDArray[np.floating] = NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)[0]
        return distances[:, k]

    distances = np.linalg.norm(real.numpy()[:, None].astype(float) - fake.numpy()[None], axis=2)
    inside = distances <= radii(real.numpy())[:, None]
    expected = {
        "precision": inside.any(axis=0).mean(),
        "recall": (distances <= radii(fake.numpy())).any(axis=1).mean(),
        "density": inside.sum(axis=0).mean() / k,
        "coverage": inside.any(axis=1).mean(),
    }
    assert 0 < expected["coverage"] < 1
    assert neighbourhood_scores(real, fake, k) == pytest.approx(expected)


def test_mode_collapse_lowers_coverage_and_recall_but_not_precision() -> None:
    groups = torch.arange(400) % 4
    real, good = (features(400, seed, scale=0.2) + 10 * torch.eye(SIZE)[groups] for seed in (0, 1))
    collapsed = features(400, 2, scale=0.2) + 10 * torch.eye(SIZE)[0]
    before, after = neighbourhood_scores(real, good), neighbourhood_scores(real, collapsed)
    assert before["coverage"] > 0.9
    assert after["coverage"] < 0.3
    assert after["recall"] < 0.3 < before["recall"]
    assert after["precision"] > 0.9


def test_sets_smaller_than_the_neighbourhood() -> None:
    scores = neighbourhood_scores(features(3, 0), features(2, 1))
    assert all(math.isfinite(value) for value in scores.values())


def test_classes_generated_counts_those_with_a_tenth_of_an_equal_share() -> None:
    counts = torch.tensor([880, 100, 10, 9, 1, 0, 0, 0, 0, 0])
    assert count_generated(counts) == 3  # at least 1 % of 1000
    assert count_generated(torch.tensor([3, 0])) == 1


def test_class_kl_is_0_for_equal_counts_and_log_of_the_classes_for_one() -> None:
    assert kl_to_uniform(torch.tensor([5, 5, 5, 5])) == pytest.approx(0)
    assert kl_to_uniform(torch.tensor([9, 0, 0, 0])) == pytest.approx(math.log(4))
    assert kl_to_uniform(torch.tensor([3, 1])) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(1, 119), max_size=5, unique=True), num_workers=st.integers(1, 3))
def test_any_batches_on_any_number_of_workers_give_the_same(cuts: list[int], num_workers: int) -> None:
    real, fake = features(120, 0), features(120, 1, shift=0.3)
    logits = torch.nn.functional.one_hot(torch.arange(120) % 3, 5).float()
    edges = [0, *sorted(cuts), 120]
    parts = [count(real[a:b], fake[a:b], logits[a:b]) for a, b in itertools.pairwise(edges)]
    workers = [add_up(parts[rank::num_workers]) for rank in range(num_workers)]  # some may have no part
    expected, found = score(count(real, fake, logits)), score(add_up(workers))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert set(found) == {"frechet_distance", "coverage", "density", "num_classes_generated", "class_kl"}
    assert found["num_classes_generated"] == 3
