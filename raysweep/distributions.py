"""Defines what a search space is made of: distributions, their values and ends, and choices that open others."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from raysweep.config import require
from raysweep.errors import shorten

Distributions = Mapping[str, BaseDistribution]


@dataclass(frozen=True, slots=True)
class When:
    """Further choices that exist only where the categorical choice `key` took one of `values`."""

    key: str
    """A categorical key of the space."""
    values: str | tuple[str, ...]
    """One of its choices, or several."""
    space: Distributions
    """Further keys and their distributions."""

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Tells whether these choices exist at the point `params`."""
        values = (self.values,) if isinstance(self.values, str) else self.values
        return params.get(self.key) in values


def check_condition(condition: When, space: Distributions) -> None:
    """Raises ValueError where no choice of the space can open what the condition has."""
    opening = space.get(condition.key)
    if not isinstance(opening, CategoricalDistribution):
        raise ValueError(f"a condition needs a categorical key of the space, got {condition.key!r}")
    if not any(condition.holds({condition.key: choice}) for choice in opening.choices):
        raise ValueError(
            f"a condition must hold for one of the choices of {condition.key}, {opening.choices}, got "
            f"{condition.values!r}"
        )


def clip_epochs(space: Distributions, most: int) -> Distributions:
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


def space_to_json(space: Distributions) -> dict[str, Any]:
    """Returns a space as plain JSON values, each distribution as Optuna writes it."""
    return {key: json.loads(distribution_to_json(distribution)) for key, distribution in space.items()}


def describe_distribution(distribution: BaseDistribution, format_value: Callable[[Any], str]) -> str:
    """Says which values there are, each as `format_value` writes it."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return ", ".join(map(format_value, choices))
        case FloatDistribution(low=low, high=high) | IntDistribution(low=low, high=high):
            if low == high:
                return format_value(low)
            steps = f" in steps of {format_value(distribution.step)}" if distribution.step not in (None, 1) else ""
            return f"{format_value(low)} to {format_value(high)}{steps}{', logarithmic' * distribution.log}"
    return str(distribution)


def to_setting(value: Any) -> str:
    """Writes a value as `--set` takes it."""
    match value:
        case None | bool():
            return str(value).lower()
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else str(value)
    return str(value)
