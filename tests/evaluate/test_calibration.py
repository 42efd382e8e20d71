"""Calibration against torchmetrics, and its bins at their edges."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from raysweep.evaluate.calibration import NUM_BINS, measure_calibration


def test_the_error_is_that_of_torchmetrics() -> None:
    draw = torch.Generator().manual_seed(0)
    probabilities = torch.randn(500, 5, generator=draw).mul(2).softmax(dim=1)
    labels = torch.randint(5, (500,), generator=draw)
    confidence, predicted = probabilities.max(dim=1)
    found = measure_calibration(confidence.double().numpy(), (predicted == labels).numpy())
    theirs = multiclass_calibration_error(probabilities, labels, num_classes=5, n_bins=NUM_BINS, norm="l1")
    assert found.error == pytest.approx(float(theirs), abs=1e-6)
    assert found.counts.sum() == 500


def test_each_confidence_is_in_a_bin() -> None:
    found = measure_calibration(np.array([0.0, 1 / NUM_BINS, 1.0]), np.array([False, True, True]))
    assert (found.counts[0], found.counts[-1]) == (2, 1)
    assert found.accuracy[0] == 0.5
    assert found.error == pytest.approx(2 / 3 * (0.5 - 0.5 / NUM_BINS))
