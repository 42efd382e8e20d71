"""A Gaussian process over configurations and positions on their learning curves. Knows nothing of Optuna.

The objective of configuration x after a share of its training, s = log(share), is modelled as a sum of processes:
a level of the configuration, k(x, x'); a part of it that changes along the curve, k(x, x') exp(-|s - s'| / l), which
past values tell about the less the longer ago they are; a part of the single trial, exp(-|s - s'| / l), which no
configuration explains; a common line in s; and noise. The idea is that of freeze-thaw Bayesian optimisation (Swersky,
Snoek and Adams, 2014, arXiv:1406.3896), whose kernel for curves fits exponential decays; this one fits running bests.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

SQRT5 = 5.0**0.5
JITTER = 1e-6
LINE_OFFSET, LINE_SLOPE = 1.0, 0.3
"""Variances of the line that all curves share."""
NUM_SCALARS = 5
PRIOR_MEDIANS = (0.7, 0.3, 0.05, 1e-3, 1.5)
"""Variances of the level, the changing part, the trial's own part and the noise; the length l."""
PRIOR_SCALES = (1.0, 1.0, 1.0, 1.5, 0.7)
"""Standard deviations of the logarithms of these."""
LENGTH_MEDIAN = 0.45
"""Prior median of a key's length scale, times the root of the number of keys (Hvarfner et al., 2024)."""
MAX_ITERATIONS = 25


@dataclass(frozen=True, slots=True)
class Points:
    """Positions on learning curves: n rows."""

    features: Array
    """Features of the configurations: (n, features)."""
    log_share: Array
    """Logarithm of the share of its training that the trial has had: (n,), at most 0."""
    trial: NDArray[np.int64]
    """Number of the trial: (n,); -1 for one that does not exist yet."""

    def __len__(self) -> int:
        return len(self.log_share)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> "Points":
        return Points(self.features[rows], self.log_share[rows], self.trial[rows])

    def __add__(self, other: "Points") -> "Points":
        return Points(
            np.vstack([self.features, other.features]),
            np.concatenate([self.log_share, other.log_share]),
            np.concatenate([self.trial, other.trial]),
        )


def prior_mean(num_keys: int) -> Array:
    """Returns the logarithms of the prior hyperparameters: the five scalars, then a length scale for each key."""
    lengths = np.full(num_keys, LENGTH_MEDIAN * np.sqrt(max(num_keys, 1)))
    return np.asarray(np.log(np.concatenate([PRIOR_MEDIANS, lengths])))


class Kernel:
    """Computes covariances in one space; `feature_keys` names the key whose length scale each feature has."""

    def __init__(self, feature_keys: NDArray[np.int64]) -> None:
        self.feature_keys = feature_keys
        self.num_keys = int(feature_keys.max(initial=-1)) + 1

    def between(self, theta: Array, p: Points, q: Points) -> Array:
        """Computes covariances of the values at p and q, without noise: (len(p), len(q))."""
        level, changing, own, _, length = np.exp(theta[:NUM_SCALARS])
        scale = np.exp(-theta[NUM_SCALARS:])[self.feature_keys]
        a, b = p.features * scale, q.features * scale
        squared = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0)
        fading = np.exp(-np.abs(p.log_share[:, None] - q.log_share) / length)
        same = (p.trial[:, None] == q.trial) & (p.trial[:, None] >= 0)
        line = LINE_OFFSET + LINE_SLOPE * p.log_share[:, None] * q.log_share
        return np.asarray(_matern(squared)[0] * (level + changing * fading) + own * same * fading + line)

    def variance(self, theta: Array, p: Points) -> Array:
        """Computes prior variances of the values at p: (len(p),)."""
        return np.asarray(np.exp(theta[:3]).sum() + LINE_OFFSET + LINE_SLOPE * p.log_share**2)

    def fit(self, p: Points, values: Array, start: Array) -> Array:
        """Fits hyperparameters: maximises their posterior density by L-BFGS from `start`."""
        squares = np.stack(
            [
                sum((np.subtract.outer(c, c) ** 2 for c in p.features[:, self.feature_keys == key].T), np.zeros(()))
                for key in range(self.num_keys)
            ]
        )
        gaps = np.abs(np.subtract.outer(p.log_share, p.log_share))
        same = np.equal.outer(p.trial, p.trial).astype(float)
        line = LINE_OFFSET + LINE_SLOPE * np.multiply.outer(p.log_share, p.log_share)
        mean = prior_mean(self.num_keys)
        scales = np.concatenate([PRIOR_SCALES, np.ones(self.num_keys)])

        def loss(theta: Array) -> tuple[float, Array]:
            value, gradient = _negative_log_likelihood(theta, values, squares, gaps, same, line)
            z = (theta - mean) / scales
            return value + 0.5 * float(z @ z), gradient + z / scales

        limits = [(-9.0, 4.0)] * len(start)
        options = {"maxiter": MAX_ITERATIONS, "maxfun": MAX_ITERATIONS + 8}
        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options=options).x)


class Posterior:
    """Predicts values at points from the values at others."""

    def __init__(self, kernel: Kernel, theta: Array, points: Points, values: Array) -> None:
        self.kernel, self.theta, self.points, self.values = kernel, theta, points, values
        covariance = kernel.between(theta, points, points)
        covariance[np.diag_indices(len(points))] += np.exp(theta[3])
        self._factor = _factorize(covariance)
        self._weights = cho_solve((self._factor, True), values, check_finite=False)

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Predicts mean and standard deviation at each point, without noise: (n,) both."""
        mean, explained = self._explain(points)
        variance = self.kernel.variance(self.theta, points) - (explained**2).sum(0)
        return mean, np.sqrt(np.maximum(variance, 1e-9))

    def draw(self, points: Points, random: np.random.Generator, num: int) -> Array:
        """Draws values at the points jointly, without noise: (num, n)."""
        mean, explained = self._explain(points)
        covariance = self.kernel.between(self.theta, points, points) - explained.T @ explained
        return np.asarray(mean + random.standard_normal((num, len(points))) @ _factorize(covariance).T)

    def condition_on_mean(self, points: Points) -> "Posterior":
        """Conditions the posterior on its own mean at the points, as if it had been observed (kriging believer)."""
        mean, _ = self._explain(points)
        return Posterior(self.kernel, self.theta, self.points + points, np.concatenate([self.values, mean]))

    def _explain(self, points: Points) -> tuple[Array, Array]:
        cross = self.kernel.between(self.theta, self.points, points)
        explained = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        return np.asarray(cross.T @ self._weights), np.asarray(explained)


def _factorize(covariance: Array) -> Array:
    """Computes the lower Cholesky factor, the diagonal raised as little as needed: points may coincide."""
    jitter = JITTER
    while True:
        try:
            return np.asarray(np.linalg.cholesky(covariance + jitter * np.eye(len(covariance))))
        except np.linalg.LinAlgError:
            jitter *= 10


def _matern(squared: Array) -> tuple[Array, Array]:
    """Computes the Matern 5/2 correlation at squared distances, and its derivative by them times -2."""
    distance = np.sqrt(squared)
    decay = np.exp(-SQRT5 * distance)
    return (1 + SQRT5 * distance + 5 / 3 * squared) * decay, 5 / 3 * (1 + SQRT5 * distance) * decay


def _negative_log_likelihood(
    theta: Array, values: Array, squares: Array, gaps: Array, same: Array, line: Array
) -> tuple[float, Array]:
    """Computes the negative log marginal likelihood up to a constant, and its gradient by theta."""
    level, changing, own, noise, length = np.exp(theta[:NUM_SCALARS])
    weights = np.exp(-2 * theta[NUM_SCALARS:])
    correlation, slope = _matern(np.tensordot(weights, squares, axes=1))
    fading = np.exp(-gaps / length)
    mix = level + changing * fading
    covariance = correlation * mix + own * same * fading + line
    covariance[np.diag_indices(len(values))] += noise + JITTER
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    inverse = cho_solve((factor, True), np.eye(len(values)), check_finite=False)
    alpha = inverse @ values
    outer = 0.5 * (inverse - np.outer(alpha, alpha))  # the loss's derivative by each covariance
    along = outer * correlation
    gradient = np.empty_like(theta)
    gradient[0] = level * along.sum()
    gradient[1] = changing * (along * fading).sum()
    gradient[2] = own * (outer * same * fading).sum()
    gradient[3] = noise * np.trace(outer)
    gradient[4] = (outer * (changing * correlation + own * same) * fading * gaps).sum() / length
    gradient[NUM_SCALARS:] = np.tensordot(squares, outer * mix * slope, axes=2) * weights
    return float(0.5 * values @ alpha + np.log(np.diag(factor)).sum()), gradient
