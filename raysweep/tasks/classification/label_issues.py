"""Finds test images whose label is probably wrong, by `cleanlab`: the model is sure of another class."""

import warnings

import numpy as np
import numpy.typing as npt

MISSING = "cleanlab is not installed"


def find_label_issues(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64] | None:
    """Finds the rows whose label is suspected, the most suspect first; None where `cleanlab` is not installed.

    Confident learning (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068), by its default thresholds.

    Args:
        labels: (N,) class numbers that the data set gives.
        probabilities: (N, C) of a model that has not been trained on these images.
    """
    try:
        from cleanlab.filter import find_label_issues as find
    except ModuleNotFoundError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of classes with few images
        rows = find(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(rows, np.int64)
