"""Statistics on predictions of the test split: the lift over the baseline, and what a confusion matrix says.

lift = paired_bootstrap(predicted == true, baseline_predicted == true)
print(describe_lift(lift))
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import classification_report

from raysweep.atomic_files import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Lift:
    """Difference of two figures measured on the same test images, with a confidence interval."""

    difference: float
    """The model's figure, such as its accuracy in [0, 1], minus the baseline's."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    confidence: float
    """Nominal coverage of the interval, in (0, 1)."""
    num_images: int
    """Test images both models were evaluated on, at least 1."""
    num_resamples: int
    """Bootstrap resamples drawn, at least 1."""

    @staticmethod
    def from_resamples(difference: float, resampled: NDArray[np.float64], confidence: float, num_images: int) -> "Lift":
        """Returns the lift with the central `confidence` share of the resampled differences (R,) as its interval."""
        tail = (1.0 - confidence) / 2.0
        low, high = np.quantile(resampled, [tail, 1.0 - tail])
        return Lift(
            difference=difference,
            low=float(low),
            high=float(high),
            confidence=confidence,
            num_images=num_images,
            num_resamples=len(resampled),
        )

    @property
    def includes_zero(self) -> bool:
        """Whether the interval holds 0: the data are compatible with no difference."""
        return self.low <= 0.0 <= self.high


@dataclass(frozen=True, slots=True)
class ClassReport:
    """Precision, recall and F1 of each class."""

    text: str
    values: Json
    """By class name, `macro avg` and `weighted avg`; `accuracy`."""


def paired_bootstrap(
    correct: NDArray[np.bool_],
    baseline_correct: NDArray[np.bool_],
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Lift:
    """Returns the difference of accuracies with its paired percentile-bootstrap interval.

    Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3: test images are resampled
    with replacement, and the interval is the central `confidence` share of the resampled differences. The
    pairing keeps what makes an image hard for both models out of the interval. An image contributes d in
    {-1, 0, 1}, and only how many of each a resample holds matters to its mean, so the resamples are drawn
    from the exact distribution of those counts: Multinomial(N, observed shares).

    The interval covers the choice of test images only, neither the seed of training nor the choice of the
    best trial. With few images on which the two models disagree it is narrower than it should be; with
    none, it is [0, 0].

    Args:
        correct: (N,) bool, whether the model is right about each test image.
        baseline_correct: (N,) bool, the same for the baseline; the same images in the same order.
        confidence: nominal coverage, in (0, 1).
        num_resamples: bootstrap resamples, at least 1.
        seed: of the resampling; the same seed gives the same interval, whatever the order of the images.

    Raises:
        ValueError: for arrays that are not (N,) bool with the same N >= 1, or settings out of range.
    """
    for name, values in (("correct", correct), ("baseline_correct", baseline_correct)):
        if values.ndim != 1 or values.dtype != np.bool_ or values.size == 0:
            raise ValueError(
                f"{name} must be (N,) bool with N >= 1, got shape {values.shape} and dtype {values.dtype}; "
                "pass predicted == true"
            )
    if correct.size != baseline_correct.size:
        raise ValueError(
            f"correct and baseline_correct must be about the same test images, got {correct.size} and "
            f"{baseline_correct.size}; evaluate both models on the whole test split"
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}; 0.95 is usual")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}; 10_000 is usual")

    num_images = correct.size
    num_gained = int(np.count_nonzero(correct & ~baseline_correct))
    num_lost = int(np.count_nonzero(~correct & baseline_correct))
    counts = np.array([num_lost, num_images - num_gained - num_lost, num_gained])
    draws = np.random.default_rng(seed).multinomial(num_images, counts / num_images, size=num_resamples)
    resampled = (draws[:, 2] - draws[:, 0]) / num_images
    return Lift.from_resamples((num_gained - num_lost) / num_images, resampled, confidence, num_images)


def bootstrap_mean_difference(
    values: NDArray[np.float64],
    baseline_values: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> Lift:
    """Returns the difference of two means over the same test images, with its paired percentile-bootstrap interval.

    As `paired_bootstrap` (Efron & Tibshirani 1993, section 13.3), for a figure that each image has a real value of.

    Args:
        values: (N,) float64, the model's, such as the squared error of each image.
        baseline_values: (N,) float64, the baseline's; the same images in the same order.
        confidence: nominal coverage, in (0, 1).
        num_resamples: bootstrap resamples, at least 1.
        seed: of the resampling.
    """
    differences = np.asarray(values, dtype=np.float64) - baseline_values
    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=num_resamples,
        method="percentile",
        batch=100,
        rng=np.random.default_rng(seed),
    )
    resampled = found.bootstrap_distribution
    return Lift.from_resamples(float(differences.mean()), resampled, confidence, len(differences))


def describe_lift(lift: Lift, what: str = "accuracy over the baseline", digits: int = 4) -> str:
    """Returns one sentence for the report, which says so when the interval includes zero; `what` is the difference."""
    # "z" keeps a difference that rounds to zero from reading -0.0000.
    sentence = (
        f"{lift.difference:+z.{digits}f} {what} ({100 * lift.confidence:g} % interval "
        f"{lift.low:+z.{digits}f} to {lift.high:+z.{digits}f}, n = {lift.num_images} test images)"
    )
    if lift.includes_zero:
        sentence += "; the interval includes zero: this run does not show a difference"
    return sentence


def check_confusion_matrix(matrix: NDArray[np.int64], num_classes: int | None = None) -> None:
    """Checks that `matrix` is (C, C) counts, C >= 2, of `num_classes` classes where that is given.

    Raises:
        ValueError: if it is not.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 2:
        raise ValueError(
            f"a confusion matrix must be (C, C) with C >= 2, got shape {matrix.shape}; "
            "pass one row per true class and one column per predicted class"
        )
    if not np.issubdtype(matrix.dtype, np.integer):
        raise ValueError(
            f"a confusion matrix must hold integer counts, got dtype {matrix.dtype}; "
            "pass the counts before any normalisation"
        )
    if matrix.min() < 0:
        raise ValueError(f"a confusion matrix must hold counts of at least 0, got {matrix.min()}; pass unsigned sums")
    if num_classes is not None and matrix.shape[0] != num_classes:
        raise ValueError(
            f"a confusion matrix must have one row per class, got {matrix.shape[0]} rows and {num_classes} "
            "class names; pass the names of the data set the model was trained on"
        )


def most_confused(matrix: NDArray[np.int64], classes: Sequence[str], *, most: int = 10) -> pd.DataFrame:
    """Returns the most frequent confusions, largest count first; ties in the order of the classes.

    Args:
        matrix: (C, C) int64 counts, rows true, columns predicted.
        classes: the C class names.
        most: rows at the most, at least 1; pairs that never occurred are left out.

    Returns:
        Columns true (str), predicted (str), count (int64) and share_of_true (float64 in (0, 1], the share of
        the true class's images that got this prediction). No rows when nothing was confused.

    Raises:
        ValueError: for a matrix that is not (C, C) counts of those classes, or `most` below 1.
    """
    check_confusion_matrix(matrix, len(classes))
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}; 10 is usual")
    errors = matrix.astype(np.int64)
    num_true = errors.sum(axis=1)
    np.fill_diagonal(errors, 0)
    rows, columns = np.nonzero(errors)
    counts = errors[rows, columns]
    order = np.lexsort((columns, rows, -counts))[:most]
    return pd.DataFrame(
        {
            "true": pd.Series([classes[i] for i in rows[order]], dtype="str"),
            "predicted": pd.Series([classes[i] for i in columns[order]], dtype="str"),
            "count": counts[order],
            "share_of_true": counts[order] / num_true[rows[order]],
        }
    )


def report_classes(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]) -> ClassReport:
    """Returns scikit-learn's classification report, as a text with 4 digits and as a dict.

    Args:
        labels: (N,) class numbers.
        predicted: (N,) class numbers.
        classes: the C class names; those without images are in the report too.
    """
    given = {"labels": range(len(classes)), "target_names": classes, "digits": 4, "zero_division": 0}
    return ClassReport(
        text=classification_report(labels, predicted, **given),
        values=classification_report(labels, predicted, **given, output_dict=True),
    )


def describe_confusions(confused: pd.DataFrame) -> str:
    """Describes the confusions of `most_confused` in a paragraph of a report."""
    table = confused.to_string(index=False) if len(confused) else "nothing: no image was misclassified"
    return f"Most confused:\n{table}"


def mean_class_accuracy(matrix: NDArray[np.int64]) -> float:
    """Returns the mean recall over the classes that have images, in [0, 1] ("balanced accuracy").

    Args:
        matrix: (C, C) int64 counts, rows true, columns predicted.

    Raises:
        ValueError: for a matrix that is not (C, C) counts, or holds no image.
    """
    check_confusion_matrix(matrix)
    num_true = matrix.sum(axis=1)
    present = num_true > 0
    if not present.any():
        raise ValueError(
            "mean class accuracy needs at least 1 image, got a confusion matrix of zeros; "
            "evaluate on a split that has images"
        )
    return float(np.mean(np.diag(matrix)[present] / num_true[present]))
