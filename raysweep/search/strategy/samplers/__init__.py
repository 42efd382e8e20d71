"""Samplers by name: each proposes the points of trials. Importing this imports none of them."""

from typing import TYPE_CHECKING

from raysweep.registry import Registry

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from raysweep.study import Study

SAMPLERS = Registry(
    "raysweep.samplers",
    "sampler",
    {name: f"{__name__}.{name}:build" for name in ("default", "tpe", "random", "gp", "cmaes", "nsga2")},
)
"""Builders of samplers. Each is called as `build(study, num_trials)` and returns an `optuna.samplers.BaseSampler`.

A builder is any callable: a function, or a subclass of BaseSampler whose constructor takes these two. `study` is the
`raysweep.study.Study`, `num_trials` the number of trials that an earlier session left. `study.seed + num_trials` is a
seed with which a search that goes on repeats no random numbers.
"""
MIN_STARTUP = 3
"""Trials at least whose points are random, before a model proposes any."""


def build_sampler(name: str, study: "Study", num_trials: int = 0) -> "BaseSampler":
    """Builds the sampler of that name for a study that has `num_trials` trials already.

    Raises:
        UsageError: there is none of that name, or its builder is not one.
    """
    from optuna.samplers import BaseSampler

    sampler: BaseSampler = SAMPLERS.build(name, BaseSampler, study, num_trials)
    return sampler


def count_startup_trials(study: "Study") -> int:
    """Counts the random trials before a model of Optuna's proposes: a third of the budget, from MIN_STARTUP to 10."""
    return min(10, max(MIN_STARTUP, study.budget.trials // 3))
