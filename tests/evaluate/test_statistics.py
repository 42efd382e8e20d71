"""The lift over the baseline against a naive bootstrap, and tables read off a confusion matrix."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from raysweep.evaluate.statistics import (
    Lift,
    describe_lift,
    mean_class_accuracy,
    most_confused,
    paired_bootstrap,
)

LIFT = Lift(difference=0.0312, low=0.0051, high=0.0573, confidence=0.95, num_images=312, num_resamples=10_000)
MATRIX = np.array([[8, 2, 0], [1, 6, 3], [2, 0, 3]])
CLASSES = ["Pride", "Peugeot 206", "Nissan Zamiad"]


def draw_pairs(
    rng: np.random.Generator, num_images: int, shares: tuple[float, float, float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (N,) bool pairs whose difference is -1, 0 or 1 with the given shares."""
    differences = rng.choice([-1, 0, 1], size=num_images, p=shares)
    both = rng.random(num_images) < 0.7
    return np.where(differences == 0, both, differences > 0), np.where(differences == 0, both, differences < 0)


def test_interval_agrees_with_resampling_the_images_one_by_one() -> None:
    correct, baseline = draw_pairs(np.random.default_rng(1), 312, (0.05, 0.85, 0.10))
    lift = paired_bootstrap(correct, baseline)

    rng = np.random.default_rng(2)
    naive = []
    for _ in range(10_000):
        chosen = rng.integers(0, 312, size=312)
        naive.append(correct[chosen].mean() - baseline[chosen].mean())
    low, high = np.percentile(naive, [2.5, 97.5])

    assert lift.difference == pytest.approx(correct.mean() - baseline.mean())
    assert lift.low == pytest.approx(low, abs=1.5 / 312)  # differences are multiples of 1 / 312
    assert lift.high == pytest.approx(high, abs=1.5 / 312)


def test_resamples_have_the_variance_of_a_mean() -> None:
    """At one sigma of a normal law, the half width is the standard error of the mean difference."""
    correct, baseline = draw_pairs(np.random.default_rng(3), 20_000, (0.1, 0.7, 0.2))
    differences = correct.astype(float) - baseline.astype(float)
    lift = paired_bootstrap(correct, baseline, confidence=0.6827)
    assert (lift.high - lift.low) / 2 == pytest.approx(differences.std() / np.sqrt(20_000), rel=0.05)


def test_intervals_cover_the_true_difference_as_often_as_they_claim() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(400):
        correct, baseline = draw_pairs(rng, 200, (0.10, 0.75, 0.15))
        lift = paired_bootstrap(correct, baseline, num_resamples=1000, seed=seed)
        covered += lift.low <= 0.05 <= lift.high
    assert 0.91 <= covered / 400 <= 0.98


def test_a_higher_confidence_widens_the_interval() -> None:
    correct, baseline = draw_pairs(np.random.default_rng(5), 300, (0.1, 0.7, 0.2))
    narrow = paired_bootstrap(correct, baseline, confidence=0.8)
    wide = paired_bootstrap(correct, baseline, confidence=0.99)
    assert wide.low < narrow.low < narrow.difference < narrow.high < wide.high


def test_a_model_against_itself_shows_no_difference() -> None:
    correct = np.array([True, False, True])
    lift = paired_bootstrap(correct, correct, num_resamples=50)
    assert lift == Lift(difference=0.0, low=0.0, high=0.0, confidence=0.95, num_images=3, num_resamples=50)
    assert lift.includes_zero


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_interval_is_ordered_and_blind_to_the_order_of_the_images(
    pairs: list[tuple[bool, bool]], random: Random
) -> None:
    values = np.array(pairs)
    lift = paired_bootstrap(values[:, 0], values[:, 1], num_resamples=200)
    assert -1.0 <= lift.low <= lift.high <= 1.0
    assert lift.difference == pytest.approx(values[:, 0].mean() - values[:, 1].mean())
    random.shuffle(pairs)
    shuffled = np.array(pairs)
    assert paired_bootstrap(shuffled[:, 0], shuffled[:, 1], num_resamples=200) == lift


@pytest.mark.parametrize(
    ("correct", "baseline", "settings", "message"),
    [
        (np.ones((2, 2), bool), np.ones(2, bool), {}, r"correct must be \(N,\) bool.*\(2, 2\)"),
        (np.ones(2, bool), np.ones(2), {}, r"baseline_correct must be.*float64"),
        (np.ones(0, bool), np.ones(0, bool), {}, r"N >= 1, got shape \(0,\)"),
        (np.ones(2, bool), np.ones(3, bool), {}, "got 2 and 3"),
        (np.ones(2, bool), np.ones(2, bool), {"confidence": 95}, r"\(0, 1\), got 95"),
        (np.ones(2, bool), np.ones(2, bool), {"num_resamples": 0}, "at least 1, got 0"),
    ],
)
def test_wrong_input_to_the_bootstrap_is_refused(
    correct: NDArray[np.bool_], baseline: NDArray[np.bool_], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(correct, baseline, **settings)


def test_lift_reads_as_a_sentence() -> None:
    assert describe_lift(LIFT) == (
        "+0.0312 accuracy over the baseline (95 % interval +0.0051 to +0.0573, n = 312 test images)"
    )


def test_lift_that_includes_zero_says_so() -> None:
    lift = replace(LIFT, difference=-0.00001, low=-0.01, confidence=0.995)
    assert describe_lift(lift) == (
        "+0.0000 accuracy over the baseline (99.5 % interval -0.0100 to +0.0573, n = 312 test images); "
        "the interval includes zero: this run does not show a difference"
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.1, 0.1, True), (0.0, 0.1, True), (-0.1, 0.0, True), (0.01, 0.1, False), (-0.1, -0.01, False)],
)
def test_includes_zero(low: float, high: float, expected: bool) -> None:
    assert replace(LIFT, low=low, high=high).includes_zero is expected


def test_most_confused_orders_by_count_then_by_class() -> None:
    table = most_confused(MATRIX, CLASSES)
    assert table.to_dict("records") == [
        {"true": "Peugeot 206", "predicted": "Nissan Zamiad", "count": 3, "share_of_true": 0.3},
        {"true": "Pride", "predicted": "Peugeot 206", "count": 2, "share_of_true": 0.2},
        {"true": "Nissan Zamiad", "predicted": "Pride", "count": 2, "share_of_true": 0.4},
        {"true": "Peugeot 206", "predicted": "Pride", "count": 1, "share_of_true": 0.1},
    ]
    assert MATRIX[0, 0] == 8  # the matrix given is not written to


def test_most_confused_keeps_the_first() -> None:
    assert most_confused(MATRIX, CLASSES, most=2)["count"].tolist() == [3, 2]


def test_nothing_confused_gives_an_empty_table_of_the_same_columns() -> None:
    table = most_confused(np.eye(3, dtype=np.int64), CLASSES)
    assert len(table) == 0
    assert table.dtypes.to_dict() == most_confused(MATRIX, CLASSES).dtypes.to_dict()


def test_mean_class_accuracy_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    true, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    matrix = confusion_matrix(true, predicted)
    assert mean_class_accuracy(matrix) == pytest.approx(balanced_accuracy_score(true, predicted))


def test_mean_class_accuracy_leaves_out_classes_without_images() -> None:
    assert mean_class_accuracy(np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])) == pytest.approx(0.625)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3), np.int64), r"\(C, C\) with C >= 2, got shape \(2, 3\)"),
        (np.zeros((1, 1), np.int64), r"got shape \(1, 1\)"),
        (np.zeros(4, np.int64), r"got shape \(4,\)"),
        (np.zeros((3, 3)), "integer counts, got dtype float64"),
        (np.full((3, 3), -1), "at least 0, got -1"),
        (np.zeros((4, 4), np.int64), "got 4 rows and 3 class names"),
    ],
)
def test_wrong_matrix_is_refused(matrix: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        most_confused(matrix, CLASSES)


def test_out_of_range_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        most_confused(MATRIX, CLASSES, most=0)
    with pytest.raises(ValueError, match="at least 1 image, got a confusion matrix of zeros"):
        mean_class_accuracy(np.zeros((3, 3), np.int64))
