"""Stops trials by the model of learning curves."""

import math
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from raysweep.search.strategy.curve_model import GRACE_EPOCHS, Curve, CurveModel, build_final_points
from raysweep.search.strategy.reasons import STOPPED, note_reason

MIN_PROBABILITY = 0.1
"""A trial stops when the probability that it ends up as the best of all is lower."""
LOOK_RATIO = 1.25
"""Epochs at which trials are judged grow by this factor."""
NUM_DRAWS = 400


class CurvePruner(BasePruner):
    """Stops a trial that will hardly end up as the best, by the model of learning curves.

    Every trial is judged by the value expected after its own number of epochs, so trials of different lengths compare
    by their final values. Rivals are the best value that any trial has had, and the expected final values of the other
    running trials, jointly: what two trials owe to the same model does not count for either. The trial that has the
    best value is never stopped, so that the best of all is a complete one.
    """

    def __init__(self, model: CurveModel) -> None:
        self._model = model

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Decides whether to stop the trial after its last reported epoch."""
        epoch = trial.last_step
        if epoch is None or not is_look(epoch) or epoch >= self._model.num_epochs(trial):
            return False
        final = self._model.predict_final_values(study)
        if final is None:
            return False
        mine = [curve for curve in final.curves if curve.number == trial.number]
        others = [curve for curve in final.curves if curve.number != trial.number]
        if not mine or not _has_precedent(mine[0], others):
            return False
        if mine[0].values[-1] >= max(curve.values[-1] for curve in others):
            return False
        rivals = [curve for curve in others if curve.state == TrialState.RUNNING]
        points = build_final_points([*mine, *rivals])
        draws = final.posterior.draw(points, np.random.default_rng(trial.number), NUM_DRAWS)
        wins = draws[:, 0] > draws[:, 1:].max(axis=1, initial=final.best)
        is_weak = bool(wins.mean() < MIN_PROBABILITY)
        if is_weak:
            (forecast,) = final.forecast(points[:1])
            note_reason(study, trial, STOPPED, forecast, epoch=epoch, probability=float(wins.mean()))
        return is_weak


def _has_precedent(mine: Curve, others: Sequence[Curve]) -> bool:
    """Checks whether another trial has been seen as early in its own training as this one is, and later too.

    Without one the model would have to guess how much a trial gains from here on: a long trial among short ones, say.
    """
    latest = mine.log_shares[-1] + math.log(LOOK_RATIO)
    return any(len(curve.values) > 1 and curve.log_shares[0] <= latest for curve in others)


def is_look(epoch: int) -> bool:
    """Checks whether trials are judged after this epoch: 3, 4, 5, 6, 8, 10, 12, 15, ..."""
    look = GRACE_EPOCHS
    while look < epoch:
        look = max(look + 1, round(look * LOOK_RATIO))
    return look == epoch
