"""Measures whether a classifier is right as often as its confidence says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysweep.atomic_files import Json

NUM_BINS = 15
"""Of equal width over [0, 1], as in Guo et al. 2017."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Holds confidence and accuracy of N images by bins of confidence, each (NUM_BINS,); 0 in a bin without images."""

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    """Mean over the bin's images."""
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Computes the expected calibration error in [0, 1]: mean over images of their bin's |accuracy - confidence|.

        Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
        """
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.counts))

    def to_json(self) -> Json:
        """Returns error and bins for JSON."""
        bins = zip(self.counts.tolist(), self.confidence.tolist(), self.accuracy.tolist(), strict=True)
        return {
            "error": self.error,
            "bins": [{"num_images": n, "confidence": confidence, "accuracy": right} for n, confidence, right in bins],
        }


def measure_calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Measures the calibration of predictions with these confidences (N,) in [0, 1]; N at least 1."""
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    means = [
        np.bincount(bins, weights=values, minlength=NUM_BINS) / np.maximum(counts, 1) for values in (confidence, right)
    ]
    return Calibration(counts=counts, confidence=means[0], accuracy=means[1])
