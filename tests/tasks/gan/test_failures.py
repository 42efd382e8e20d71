"""When a GAN's trial is stopped: only for what lasts, after the grace, and never while it gets better."""

from typing import Any

import pytest

from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.failures import find_failure

CONFIG = {"grace_epochs": 4, "failing_epochs": 3, "min_coverage": 0.1, "max_accuracy": 0.99}
HEALTHY = {
    "val/num_classes_generated": 10.0,
    "val/coverage": 0.5,
    "val/frechet_distance": 5.0,
    "train/real_accuracy": 0.7,
    "train/fake_accuracy": 0.8,
}
COLLAPSED = {**HEALTHY, "val/num_classes_generated": 9.0}
UNCOVERED = {**HEALTHY, "val/coverage": 0.09}
SATURATED = {**HEALTHY, "train/real_accuracy": 0.985, "train/fake_accuracy": 0.999}


def find(rows: list[dict[str, float]], **values: Any) -> str | None:
    return find_failure(GanConfig(**{**CONFIG, **values}), rows, num_classes=10)


def test_a_healthy_trial_goes_on() -> None:
    assert all(find([HEALTHY] * epochs) is None for epochs in range(1, 20))


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (COLLAPSED, "mode collapse: 9 of 10 classes generated, 3 epochs without"),
        (UNCOVERED, "mode collapse: coverage 0.0900, below 0.1, 3 epochs without"),
        (SATURATED, "discriminator saturation: accuracy 0.9920, at least 0.99, 3 epochs without"),
    ],
)
def test_a_failure_lasts_and_is_not_of_the_grace(bad: dict[str, float], cause: str) -> None:
    assert find([bad] * 6) is None  # two of them after the grace of 4
    assert (find([bad] * 7) or "").startswith(cause)
    assert find([*[HEALTHY] * 8, bad, bad]) is None
    assert find([*[HEALTHY] * 8, bad, bad, HEALTHY, bad]) is None
    assert (find([*[HEALTHY] * 8, bad, bad, bad]) or "").startswith(cause)


def test_causes_do_not_add_up() -> None:
    assert find([*[HEALTHY] * 8, COLLAPSED, UNCOVERED, SATURATED]) is None


@pytest.mark.parametrize("bad", [COLLAPSED, UNCOVERED, SATURATED])
def test_a_trial_that_gets_better_goes_on(bad: dict[str, float]) -> None:
    rows = [{**bad, "val/frechet_distance": 100.0 - epoch} for epoch in range(30)]
    assert find(rows) is None
    assert find([*rows, *rows[-1:] * 2]) is None
    assert find([*rows, *rows[-1:] * 3]) is not None


@pytest.mark.parametrize("loss", ["wasserstein", "wasserstein_gp"])
def test_a_critic_cannot_be_too_good(loss: str) -> None:
    assert find([SATURATED] * 20, loss=loss) is None
    assert find([COLLAPSED] * 20, loss=loss) is not None


def test_bounds_are_the_configurations() -> None:
    assert find([UNCOVERED] * 20, min_coverage=0.05) is None
    assert find([SATURATED] * 20, max_accuracy=0.995) is None
    assert find([COLLAPSED] * 20, grace_epochs=17) is not None
    assert find([COLLAPSED] * 20, grace_epochs=18) is None
    assert find([COLLAPSED] * 20, failing_epochs=17) is None


SIMPLE_GAN = """
    379.6 1, 133.4 1, 71.8 5, 40.7 7, 45.2 6, 44.0 6, 33.7 8, 33.0 8, 35.8 7, 34.2 8, 31.8 8, 29.2 8, 33.0 8, 31.6 9,
    33.2 8, 29.0 8, 30.1 8, 28.7 8, 28.5 8, 26.9 8, 27.5 8, 26.6 8, 23.6 9, 24.8 9, 22.1 10, 20.1 10"""
"""Frechet distance and digits generated in the first epochs of mnist_gan's baseline on 48,000 images of MNIST."""


def test_the_reports_simple_gan_is_slow_not_collapsed() -> None:
    """It leaves out digits for 24 epochs, and gets better all the time."""
    pairs = [pair.split() for pair in SIMPLE_GAN.split(",")]
    rows = [{**HEALTHY, "val/frechet_distance": float(a), "val/num_classes_generated": float(b)} for a, b in pairs]
    for epochs in range(1, len(rows) + 1):
        assert find_failure(GanConfig(), rows[:epochs], num_classes=10) is None
    assert find_failure(GanConfig(), rows[:15] + rows[9:10] * 10, num_classes=10) is not None
