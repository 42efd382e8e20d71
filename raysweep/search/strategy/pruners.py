"""Pruners by name: which trial to stop."""

import math
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import IntDistribution
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from raysweep.config import PrunerName
from raysweep.search.strategy.curve_model import GRACE_EPOCHS, Curve, CurveModel, ends_of
from raysweep.study import Study

MIN_PROBABILITY = 0.1
"""A trial stops when the probability that it ends up as the best of all is lower."""
LOOK_RATIO = 1.25
"""Epochs at which trials are judged grow by this factor."""
NUM_DRAWS = 400
MIN_TRIALS = 10
"""With a smaller budget the default stops none: the model knows too little by then, and little is saved."""


class CurvePruner(BasePruner):
    """Stops a trial that will hardly end up as the best, by the model of learning curves.

    Every trial is judged by where it is expected to end after its own number of epochs, so trials of different
    lengths compare by their ends. Rivals are the best value that any trial has had, and the expected ends of the other
    running trials, jointly: what two trials owe to the same model does not count for either. The trial that has the
    best value is never stopped, so that the best of all is a complete one.
    """

    def __init__(self, model: CurveModel) -> None:
        self._model = model

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial after its last reported epoch."""
        epoch = trial.last_step
        if epoch is None or not is_look(epoch) or epoch >= self._model.num_epochs(trial):
            return False
        ends = self._model.ends(study)
        if ends is None:
            return False
        mine = [curve for curve in ends.curves if curve.number == trial.number]
        others = [curve for curve in ends.curves if curve.number != trial.number]
        if not mine or not _has_precedent(mine[0], others):
            return False
        if mine[0].values[-1] >= max(curve.values[-1] for curve in others):
            return False
        rivals = [curve for curve in others if curve.state == TrialState.RUNNING]
        draws = ends.posterior.draw(ends_of([*mine, *rivals]), np.random.default_rng(trial.number), NUM_DRAWS)
        wins = draws[:, 0] > draws[:, 1:].max(axis=1, initial=ends.top)
        return bool(wins.mean() < MIN_PROBABILITY)


def _has_precedent(mine: Curve, others: Sequence[Curve]) -> bool:
    """Whether another trial has been seen as early in its own training as this one is, and later too.

    Without one the model would have to guess how much a trial gains from here on: a long trial among short ones, say.
    """
    latest = mine.log_shares[-1] + math.log(LOOK_RATIO)
    return any(len(curve.values) > 1 and curve.log_shares[0] <= latest for curve in others)


def is_look(epoch: int) -> bool:
    """Whether trials are judged after this epoch: 3, 4, 5, 6, 8, 10, 12, 15, ..."""
    look = GRACE_EPOCHS
    while look < epoch:
        look = max(look + 1, round(look * LOOK_RATIO))
    return look == epoch


def stops_early(study: Study) -> bool:
    """Whether the default pruner stops trials before their ends: not few ones, nor with two objectives."""
    return bool(study.space) and study.budget.trials >= MIN_TRIALS and study.second_objective is None


def build_pruner(name: PrunerName, study: Study) -> BasePruner:
    """The pruner of that name."""
    match name:
        case "default" if not stops_early(study):
            return optuna.pruners.NopPruner()
        case "default":
            return CurvePruner(CurveModel(study))
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=GRACE_EPOCHS, reduction_factor=3)
        case "hyperband":
            epochs = study.space.get("training.epochs")
            longest = epochs.high if isinstance(epochs, IntDistribution) else study.training.epochs
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=longest, reduction_factor=3)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=GRACE_EPOCHS)
        case "none":
            return optuna.pruners.NopPruner()
