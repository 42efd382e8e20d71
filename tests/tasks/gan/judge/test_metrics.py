"""The metrics of the search: right by independent computations, and exact under any batches and sharding."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from raysweep.tasks.gan.judge.metrics import (
    ClassesGenerated,
    FrechetDistance,
    GenerationMetrics,
    count_generated,
    kl_to_uniform,
    neighbourhood_scores,
)

SIZE = 8


def features(num, seed, shift=0.0, scale=1.0):
    return scale * torch.randn(num, SIZE, generator=torch.Generator().manual_seed(seed)) + shift


def update(metrics, real, fake, logits):
    for name in ("frechet_distance", "coverage", "density"):
        metrics[name].update(real, fake)
    metrics["num_classes_generated"].update(logits)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """For commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    draw = np.random.default_rng(0)
    scales, other, shift = draw.uniform(0.5, 2, SIZE), draw.uniform(0.5, 2, SIZE), draw.normal(size=SIZE)
    rotation, _ = np.linalg.qr(draw.normal(size=(SIZE, SIZE)))
    white = draw.normal(size=(4000, SIZE))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T  # covariance exactly 1
    metric = FrechetDistance(SIZE)
    metric.update(torch.from_numpy(white * scales @ rotation), torch.from_numpy((white * other) @ rotation + shift))
    expected = (shift**2).sum() + ((scales - other) ** 2).sum()
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_equal_sets_is_0_and_of_collapsed_ones_is_finite():
    metric, real = FrechetDistance(SIZE), features(100, 0)
    metric.update(real, real.flip(0))
    assert float(metric.compute()) == pytest.approx(0, abs=1e-6)
    metric.reset()
    metric.update(real, torch.ones(100, SIZE))
    expected = float((real.double().mean(dim=0) - 1).square().sum() + real.double().var(dim=0).sum())
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_features_that_are_not_finite_is_nan():
    metric, real = FrechetDistance(SIZE), features(50, 0)
    metric.update(real, real * torch.nan)
    assert math.isnan(metric.compute())


@pytest.mark.parametrize("block", [7, 1000])
def test_neighbourhood_scores_are_those_of_sklearn_neighbours(block, monkeypatch):
    monkeypatch.setattr("raysweep.tasks.gan.judge.metrics.BLOCK_ROWS", block)
    real, fake, k = features(80, 0), features(60, 1, shift=0.7, scale=0.8), 3

    def radii(points):
        return NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)[0][:, k]

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


def test_mode_collapse_lowers_coverage_and_recall_but_not_precision():
    groups = torch.arange(400) % 4
    real, good = (features(400, seed, scale=0.2) + 10 * torch.eye(SIZE)[groups] for seed in (0, 1))
    collapsed = features(400, 2, scale=0.2) + 10 * torch.eye(SIZE)[0]
    before, after = neighbourhood_scores(real, good), neighbourhood_scores(real, collapsed)
    assert before["coverage"] > 0.9
    assert after["coverage"] < 0.3
    assert after["recall"] < 0.3 < before["recall"]
    assert after["precision"] > 0.9


def test_sets_smaller_than_the_neighbourhood():
    scores = neighbourhood_scores(features(3, 0), features(2, 1))
    assert all(math.isfinite(value) for value in scores.values())


def test_classes_generated_counts_those_with_a_tenth_of_an_equal_share():
    counts = torch.tensor([880, 100, 10, 9, 1, 0, 0, 0, 0, 0])
    assert count_generated(counts) == 3  # at least 1 % of 1000
    assert count_generated(torch.tensor([3, 0])) == 1


def test_class_kl_is_0_for_equal_counts_and_log_of_the_classes_for_one():
    assert kl_to_uniform(torch.tensor([5, 5, 5, 5])) == pytest.approx(0)
    assert kl_to_uniform(torch.tensor([9, 0, 0, 0])) == pytest.approx(math.log(4))
    assert kl_to_uniform(torch.tensor([3, 1])) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(1, 119), max_size=5, unique=True), num_workers=st.integers(1, 3))
def test_any_batches_on_any_number_of_workers_give_the_same(cuts, num_workers):
    real, fake = features(120, 0), features(120, 1, shift=0.3)
    logits = torch.nn.functional.one_hot(torch.arange(120) % 3, 5).float()
    whole = GenerationMetrics(num_classes=5, num_features=SIZE)
    update(whole, real, fake, logits)
    workers = [GenerationMetrics(num_classes=5, num_features=SIZE) for _ in range(num_workers)]
    edges = [0, *sorted(cuts), 120]
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        update(workers[index % num_workers], real[start:end], fake[start:end], logits[start:end])
    merged = workers[0]
    for name, metric in merged.items(copy_state=False):
        for worker in workers[1 : len(edges) - 1]:
            metric.merge_state(worker[name])
    expected = {name: float(value) for name, value in whole.compute().items()}
    found = {name: float(value) for name, value in merged.compute().items()}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert set(found) == {"frechet_distance", "coverage", "density", "num_classes_generated", "class_kl"}
    assert found["num_classes_generated"] == 3


def test_reset_forgets_everything():
    metric = ClassesGenerated(3)
    metric.update(torch.eye(3))
    metric.reset()
    metric.update(torch.tensor([[0.0, 1.0, 0.0]]))
    assert metric.compute()["num_classes_generated"] == 1
