"""Defines what a run scored on its test images, for a comparison of runs. Imports nothing heavy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class TestScores:
    """Holds the main figure of a run's best model on the test images, of each image where it has one.

    What `TaskConfig.test_scores` names returns it, from the run's folder and results, without opening the test split.
    """

    __test__ = False  # pytest would take the class for one of tests

    metric: str
    """Its name, such as `accuracy`."""
    direction: Literal["maximize", "minimize"]
    value: float
    by_image: "npt.NDArray[np.float64] | None" = None
    """(N,) float64 whose mean is `value`, in the order of the test split; none: the figure is of all images together,
    or those of each were not kept."""
    instrument: str = ""
    """What has to be the same for two values to be comparable: the digest of a network that judges, for one."""
    note: str = ""
    """Why there is no `by_image`, a sentence."""
