"""What a search space is made of: which values a distribution has, and its ends."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep.config import require
from raysweep.errors import shorten


def clip_epochs(space: Mapping[str, BaseDistribution], most: int) -> Mapping[str, BaseDistribution]:
    """Clips the range of epochs in a space, where there is one, to `most`."""
    clipped: BaseDistribution
    match space.get("training.epochs"):
        case IntDistribution(low=low, high=high, log=log):
            clipped = IntDistribution(min(low, most), min(high, most), log=log)
        case CategoricalDistribution(choices=choices):
            clipped = CategoricalDistribution(list(dict.fromkeys(min(int(str(choice)), most) for choice in choices)))
        case _:
            return space
    return {**space, "training.epochs": clipped}


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Tells whether a distribution has the value."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):  # of another type than the distribution's values
        return False


def extremes(key: str, distribution: BaseDistribution) -> tuple[Any, ...]:
    """Lists the values at the ends of a distribution: where they are legal, so are all.

    Raises:
        ValueError: it is no distribution, or has one choice twice.
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        require(all(choices.count(choice) == 1 for choice in choices), f"choices of {key} must differ", choices)
        return tuple(choices)
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise ValueError(
            f"the search space of {key} must be a FloatDistribution, IntDistribution or CategoricalDistribution of "
            f"optuna.distributions, got {shorten(repr(distribution))}"
        )
    return distribution.low, distribution.high
