"""Finds the training images nearest to generated ones: evidence that a generator does not copy."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raysweep.tasks.gan.scores import find_nearest

NUM_NEAREST = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """Holds the nearest training images of some generated images, and of as many test images for comparison."""

    distances: npt.NDArray[np.float64]
    """(K, NUM_NEAREST) Euclidean, nearest first, of generated images."""
    rows: npt.NDArray[np.int64]
    """(K, NUM_NEAREST), of the training split."""
    test_distances: npt.NDArray[np.float64]
    """(K,) of test images to the nearest training image."""

    def summarise(self) -> dict[str, float]:
        """Computes median and smallest distance to the nearest training image, of generated and of test images."""
        return {
            "generated_median": float(np.median(self.distances[:, 0])),
            "generated_smallest": float(self.distances[:, 0].min()),
            "test_median": float(np.median(self.test_distances)),
            "test_smallest": float(self.test_distances.min()),
        }


def find_neighbours(generated: torch.Tensor, test: torch.Tensor, train: Iterable[torch.Tensor]) -> Neighbours:
    """Compares generated (K, D) and test images (L, D) with batches (B, D) of training images: pixels or features."""
    found, rows = find_nearest(torch.cat([generated, test]), train, NUM_NEAREST)
    distances = found.double().numpy()
    return Neighbours(
        distances=distances[: len(generated)],
        rows=rows[: len(generated)].numpy(),
        test_distances=distances[len(generated) :, 0],
    )
