"""Compares the metrics of two trainings, epoch by epoch."""

import math
from dataclasses import dataclass

from raysweep.train.history import OF_MACHINES, History

ROUNDING = 1e-6
"""Relative difference up to which two sums of the same numbers in another order are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sameness:
    """Says how far two trainings are the same."""

    num_epochs_before: int
    num_epochs: int
    is_exact: bool
    """Whether all metrics of all epochs are the same to the last digit."""
    is_same: bool
    """Whether they are the same up to rounding, and as many epochs."""
    first_epoch: int | None
    """The first epoch with a metric that differs by more than rounding; none: there is no such."""
    differences: dict[str, float]
    """The largest difference of each metric in any epoch."""

    def describe(self, metric: str) -> str:
        """Says in a sentence whether the trainings are the same; `metric` is the objective."""
        if self.num_epochs != self.num_epochs_before:
            return f"not the same: {self.num_epochs} epochs, before {self.num_epochs_before}"
        if not self.num_epochs:
            return "no epoch ended, as before"
        if self.is_exact:
            return f"the same to the last digit, all metrics in all {self.num_epochs} epochs"
        largest = self.differences.get(metric, 0.0)
        if self.is_same:
            return f"the same up to rounding in all {self.num_epochs} epochs; {metric} differs by {largest:.2g} at most"
        return (
            f"not the same: metrics differ from epoch {self.first_epoch} of {self.num_epochs} on; {metric} by "
            f"{largest:.3g} at most"
        )


def compare_histories(before: History, after: History) -> Sameness:
    """Compares the metrics that both have, but those that measure time."""
    differences: dict[str, float] = {}
    first_epoch, is_exact = None, len(before) == len(after)
    for epoch, (old, new) in enumerate(zip(before, after, strict=False), start=1):
        for name in sorted((old.keys() & new.keys()) - OF_MACHINES):
            differences[name] = max(differences.get(name, 0.0), abs(new[name] - old[name]))
            is_exact = is_exact and old[name] == new[name]
            if first_epoch is None and not math.isclose(old[name], new[name], rel_tol=ROUNDING, abs_tol=ROUNDING):
                first_epoch = epoch
    return Sameness(
        num_epochs_before=len(before),
        num_epochs=len(after),
        is_exact=is_exact,
        is_same=first_epoch is None and len(before) == len(after),
        first_epoch=first_epoch,
        differences=differences,
    )
