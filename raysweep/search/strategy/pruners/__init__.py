"""Pruners by name: each decides which trials to stop. Importing this imports none of them."""

from typing import TYPE_CHECKING

from raysweep.registry import Registry

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from raysweep.study import Study

PRUNERS = Registry(
    "raysweep.pruners",
    "pruner",
    {name: f"{__name__}.{name}:build" for name in ("default", "asha", "hyperband", "median", "none")},
)
"""Builders of pruners. Each is called as `build(study)` and returns an `optuna.pruners.BasePruner`.

A builder is any callable: a function, or a subclass of BasePruner whose constructor takes the `raysweep.study.Study`.
A pruner sees the objective after each epoch, which is Optuna's step; the baseline is never stopped, whatever it says.
"""


def build_pruner(name: str, study: "Study") -> "BasePruner":
    """Builds the pruner of that name.

    Raises:
        UsageError: there is none of that name, or its builder is not one.
    """
    from optuna.pruners import BasePruner

    pruner: BasePruner = PRUNERS.build(name, BasePruner, study)
    return pruner
