"""Scores of generated images: right where the truth is known, and moved by what they are meant to show."""

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from raysweep.evaluate.statistics import describe_lift
from raysweep.tasks.gan.scores import (
    bootstrap_frechet,
    classifier_score,
    find_nearest,
    frechet_distance,
    kernel_distance,
    score_images,
)

SIZE = 8


def features(num: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(num, SIZE, generator=torch.Generator().manual_seed(seed)) + shift


def answers(classes: Any, num_classes: int, certainty: float = 20.0) -> torch.Tensor:
    return certainty * torch.nn.functional.one_hot(torch.as_tensor(classes), num_classes).float()


def test_frechet_distance_of_shifted_sets_is_the_shift() -> None:
    real = features(3000, 0)
    assert frechet_distance(real, real + 0.5) == pytest.approx(SIZE * 0.25, rel=1e-6)


def test_kernel_distance_is_near_0_for_the_same_distribution_by_its_error() -> None:
    mean, error = kernel_distance(features(1000, 0), features(1000, 1))
    assert abs(mean) < 4 * error
    assert 0 < error < 0.05


def test_kernel_distance_is_the_unbiased_estimate_of_the_cubic_kernel() -> None:
    """Against all pairs of both sets at once, which the subsets estimate."""
    real, fake = features(1000, 0).double(), features(1000, 1, shift=0.4).double()

    def kernel(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first @ second.T / SIZE + 1) ** 3

    same = [(kernel(x, x).sum() - kernel(x, x).trace()) / (len(x) * (len(x) - 1)) for x in (real, fake)]
    expected = float(sum(same) - 2 * kernel(real, fake).mean())
    mean, error = kernel_distance(real, fake)
    assert mean == pytest.approx(expected, rel=0.05)
    assert abs(mean - expected) < 4 * error


def test_kernel_distance_and_classifier_score_are_torchmetrics() -> None:
    real, fake, logits = features(300, 0), features(250, 1, shift=0.4), features(400, 2)
    torch.manual_seed(0)
    kid = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=100, subset_size=125)
    kid.update(real.double(), real=True)
    kid.update(fake.double(), real=False)
    mean, deviation = (float(value) for value in kid.compute())
    assert kernel_distance(real, fake) == pytest.approx((mean, deviation * 0.5**0.5), rel=1e-9)
    torch.manual_seed(0)
    inception = InceptionScore(feature=torch.nn.Identity(), splits=10)
    inception.update(logits.double())
    assert classifier_score(logits) == pytest.approx([float(value) for value in inception.compute()], rel=1e-12)


def test_kernel_distance_leaves_the_random_state_and_is_repeatable() -> None:
    torch.manual_seed(3)
    first = kernel_distance(features(100, 0), features(100, 1))
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), after)
    assert kernel_distance(features(100, 0), features(100, 1)) == first


@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_classifier_score_of_certain_answers_is_the_number_of_classes(num_classes: int) -> None:
    score, _ = classifier_score(answers(np.arange(3000) % num_classes, 5))
    assert score == pytest.approx(num_classes, rel=0.02)


def test_classifier_score_of_undecided_answers_is_1() -> None:
    assert classifier_score(torch.zeros(500, 10))[0] == pytest.approx(1)


def test_all_scores_of_real_images_against_real_ones() -> None:
    scores = score_images(features(600, 0), features(600, 1), answers(np.arange(600) % 3, 3))
    assert scores.frechet_distance < 0.2
    assert scores.coverage > 0.9
    assert scores.precision > 0.9
    assert scores.recall > 0.9
    assert scores.density == pytest.approx(1, abs=0.15)
    assert scores.class_counts == [200, 200, 200]
    assert scores.num_classes_generated == 3
    assert scores.class_kl == pytest.approx(0)


def test_mode_collapse_shows_in_every_score_of_variety() -> None:
    real, good = (features(600, seed) + 8 * torch.eye(SIZE)[torch.arange(600) % 3] for seed in (0, 1))
    collapsed = features(600, 2) + 8 * torch.eye(SIZE)[0]
    before = score_images(real, good, answers(np.arange(600) % 3, 3))
    after = score_images(real, collapsed, answers(np.zeros(600, dtype=int), 3))
    assert after.frechet_distance > 10 * before.frechet_distance
    assert after.coverage < before.coverage / 2
    assert after.recall < before.recall / 2
    assert after.classifier_score < before.classifier_score / 2
    assert (after.num_classes_generated, before.num_classes_generated) == (1, 3)
    assert after.class_kl > before.class_kl + 1


def test_lift_interval_holds_the_difference_of_the_true_distances() -> None:
    real, better, worse = features(1500, 0), features(1500, 1, shift=0.2), features(1500, 2, shift=0.5)
    lift = bootstrap_frechet(real, better, worse, num_resamples=60)
    assert lift.low < lift.difference < lift.high < 0
    assert lift.low < SIZE * (0.2**2 - 0.5**2) < lift.high
    assert "includes zero" not in describe_lift(lift, "Frechet distance", digits=3)


def test_lift_of_equally_good_generators_includes_zero() -> None:
    real = features(800, 0)
    lift = bootstrap_frechet(real, features(800, 1, shift=0.3), features(800, 2, shift=0.3), num_resamples=60)
    assert lift.includes_zero
    assert "does not show a difference" in describe_lift(lift, "Frechet distance", digits=3)


def test_lift_is_repeatable_and_changes_its_sign_with_the_order() -> None:
    real, first, second = features(300, 0), features(300, 1), features(300, 2, shift=1)
    lift = bootstrap_frechet(real, first, second, num_resamples=10)
    assert bootstrap_frechet(real, first, second, num_resamples=10) == lift
    assert bootstrap_frechet(real, second, first, num_resamples=10).difference == pytest.approx(-lift.difference)


@pytest.mark.parametrize("batch_size", [3, 40, 100])
def test_nearest_in_any_batches_are_those_of_a_full_sort(batch_size: int) -> None:
    queries, pool = features(7, 0), features(100, 1)
    distances, positions = find_nearest(queries, pool.split(batch_size), 4)
    expected = np.linalg.norm(queries.numpy()[:, None] - pool.numpy()[None], axis=2)
    np.testing.assert_array_equal(positions.numpy(), expected.argsort(axis=1)[:, :4])
    np.testing.assert_allclose(distances.numpy(), np.sort(expected, axis=1)[:, :4], rtol=1e-4)


def test_nearest_of_a_copy_is_the_original() -> None:
    pool = features(50, 1)
    distances, positions = find_nearest(pool[17:18], [pool], 2)
    assert positions[0, 0] == 17
    assert distances[0, 0] < 1e-2 < distances[0, 1]
