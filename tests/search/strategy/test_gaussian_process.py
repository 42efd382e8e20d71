"""The Gaussian process over learning curves: its gradient, what it predicts, points that coincide."""

import numpy as np
import numpy.typing as npt
import pytest

from raysweep.search.strategy.gaussian_process import (
    NUM_SCALARS,
    Kernel,
    Points,
    Posterior,
    _negative_log_likelihood,
    prior_mean,
)


def make_points(random: np.random.Generator, num: int) -> Points:
    return Points(random.random((num, 4)), np.log(random.uniform(0.05, 1.0, num)), random.integers(0, 6, num))


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(np.array([0, 1, 1, 2]))  # the middle two features belong to one choice


def test_the_gradient_is_that_of_the_likelihood(kernel: Kernel) -> None:
    random = np.random.default_rng(0)
    points, values = make_points(random, 15), random.standard_normal(15)
    squares = np.stack(
        [
            (
                (
                    points.features[:, None, kernel.feature_keys == key]
                    - points.features[None, :, kernel.feature_keys == key]
                )
                ** 2
            ).sum(-1)
            for key in range(3)
        ]
    )
    gaps = np.abs(np.subtract.outer(points.log_share, points.log_share))
    same = np.equal.outer(points.trial, points.trial).astype(float)
    line = 1.0 + 0.3 * np.multiply.outer(points.log_share, points.log_share)

    def loss(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        return _negative_log_likelihood(theta, values, squares, gaps, same, line)

    theta = prior_mean(3) + 0.2 * random.standard_normal(NUM_SCALARS + 3)
    numeric = [(loss(theta + 1e-5 * e)[0] - loss(theta - 1e-5 * e)[0]) / 2e-5 for e in np.eye(len(theta))]
    assert np.allclose(loss(theta)[1], numeric, rtol=1e-4, atol=1e-5)


def test_the_variance_is_the_covariance_with_itself(kernel: Kernel) -> None:
    points = make_points(np.random.default_rng(0), 10)
    theta = prior_mean(3)
    assert np.allclose(np.diag(kernel.between(theta, points, points)), kernel.variance(theta, points))


def test_points_without_a_trial_share_no_trial_of_their_own(kernel: Kernel) -> None:
    points = make_points(np.random.default_rng(0), 2)
    alike = Points(points.features[[0, 0]], points.log_share[[0, 0]], np.array([-1, -1]))
    theta = prior_mean(3)
    assert kernel.between(theta, alike, alike)[0, 1] == pytest.approx(
        kernel.variance(theta, alike)[0] - np.exp(theta[2])
    )


def test_seen_values_are_predicted_and_far_ones_are_uncertain(kernel: Kernel) -> None:
    random = np.random.default_rng(1)
    points = Points(random.random((20, 4)), np.zeros(20), np.arange(20))
    values = np.sin(4 * points.features[:, 0])
    theta = kernel.fit(points, values, prior_mean(3))
    posterior = Posterior(kernel, theta, points, values)
    mean, deviation = posterior.predict(points)
    assert np.allclose(mean, values, atol=0.15)
    far = Points(points.features + 50, np.zeros(20), np.full(20, -1))
    assert posterior.predict(far)[1].min() > 3 * deviation.max()
    # the fit sees that only the first feature matters
    assert theta[NUM_SCALARS] < theta[NUM_SCALARS + 1 :].min()


def test_a_curve_tells_most_about_its_own_end(kernel: Kernel) -> None:
    """Of two trials alike in everything that is modelled, the one that was better so far ends better."""
    features = np.full((2, 4), 0.5) + np.array([[0.0], [1e-3]])
    points = Points(features, np.log([0.5, 0.5]), np.array([0, 1]))
    posterior = Posterior(kernel, prior_mean(3), points, np.array([-0.3, 0.3]))
    mean, _ = posterior.predict(Points(features, np.zeros(2), np.array([0, 1])))
    assert mean[1] > mean[0] + 0.1


def test_believing_makes_sure_without_moving(kernel: Kernel) -> None:
    random = np.random.default_rng(2)
    points, values = make_points(random, 12), random.standard_normal(12)
    posterior = Posterior(kernel, prior_mean(3), points, values)
    new = Points(random.random((1, 4)), np.zeros(1), np.array([50]))
    believing = posterior.condition_on_mean(new)
    assert np.allclose(believing.predict(new)[0], posterior.predict(new)[0], atol=1e-3)
    assert believing.predict(new)[1] < 0.5 * posterior.predict(new)[1]


def test_points_that_coincide_are_no_trouble(kernel: Kernel) -> None:
    points = Points(np.full((30, 4), 0.3), np.zeros(30), np.zeros(30, dtype=np.int64))
    values = np.linspace(-1, 1, 30)
    posterior = Posterior(kernel, kernel.fit(points, values, prior_mean(3)), points, values)
    assert np.isfinite(posterior.draw(points, np.random.default_rng(0), 5)).all()


def test_draws_have_the_predicted_mean_and_deviation(kernel: Kernel) -> None:
    random = np.random.default_rng(3)
    points, values = make_points(random, 12), random.standard_normal(12)
    posterior = Posterior(kernel, prior_mean(3), points, values)
    new = make_points(random, 4)
    draws = posterior.draw(new, random, 20_000)
    mean, deviation = posterior.predict(new)
    assert np.allclose(draws.mean(axis=0), mean, atol=0.05)
    assert np.allclose(draws.std(axis=0), deviation, rtol=0.05)
