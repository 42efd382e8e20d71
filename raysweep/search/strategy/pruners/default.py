"""The default pruner: the model of learning curves, where a search is long enough for it."""

from optuna.pruners import BasePruner, NopPruner

from raysweep.search.strategy.curve_model import CurveModel
from raysweep.search.strategy.pruners.curve import CurvePruner
from raysweep.study import Study

MIN_TRIALS = 10
"""With a smaller budget the default stops none: the model knows too little by then, and little is saved."""


def stops_early(study: Study) -> bool:
    """Checks whether the default pruner stops any trials: not few ones, nor with two objectives."""
    return bool(study.space) and study.budget.trials >= MIN_TRIALS and study.second_objective is None


def build(study: Study) -> BasePruner:
    """Builds the pruner that suits the study."""
    return CurvePruner(CurveModel(study)) if stops_early(study) else NopPruner()
