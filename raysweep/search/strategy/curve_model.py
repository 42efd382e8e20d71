"""Predicts final values from the learning curves of an Optuna study: the model behind the default strategy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from raysweep.search.strategy.gaussian_process import Array, Kernel, Points, Posterior, prior_mean
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.study import Study

GRACE_EPOCHS = 3
"""First epoch of a curve that the model sees: on several tasks earlier ones tell the opposite of the last."""
LOOKS = 4
"""Epochs of a curve that the model sees: its last, those at a half, a quarter, an eighth of it; also GRACE_EPOCHS."""
MAX_OBSERVATIONS = 300
"""Values that the model is fitted to at most: its time grows with the third power."""
MAX_FAILED = 50
"""Latest failed trials that count as the worst there is, so that none is proposed beside them."""
MIN_FITTED = 5
"""Number of trials with a curve from which on the hyperparameters are fitted."""
REFIT_GROWTH = 1.35
"""They are fitted again when the number of these trials has grown by this factor."""
NORMAL_95 = 1.959964
"""Deviations of a normal distribution to either side of its mean that hold 95 % of it."""
HYPERPARAMETERS = "raysweep:curve_model"
"""Attribute of the Optuna study that holds the hyperparameters: a resumed search goes on with the same ones."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The part of one trial's learning curve that the model sees."""

    number: int
    state: TrialState
    row: Array
    """The trial's point: (keys,)."""
    features: Array
    log_shares: tuple[float, ...]
    """Logarithms of the shares of its own epochs; none where it has not come far enough."""
    values: tuple[float, ...]
    """The best objective until then; greater is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Says where the objective of a trial is expected to end, in the objective's own unit."""

    expected: float
    """The median."""
    low: float
    """Lower end of the interval that holds the value with 95 %, by the model."""
    high: float


def build_final_points(curves: Sequence[Curve]) -> Points:
    """Builds the points of the trials' last epochs."""
    features = np.array([curve.features for curve in curves])
    return Points(features, np.zeros(len(curves)), np.array([curve.number for curve in curves]))


class FinalValues:
    """Predicts the values after last epochs, in the model's scale, in which greater is better."""

    def __init__(
        self, posterior: Posterior, curves: Sequence[Curve], space: UnitCube, best: float, scale: "ValueScale"
    ) -> None:
        self.posterior = posterior
        self.curves = curves
        """The trials that the model was fitted to."""
        self.best = best
        """The best value that any of them has had."""
        self._space = space
        self._scale = scale

    def build_points(self, rows: Array) -> Points:
        """Builds the points of the last epochs that trials at these rows (n, keys) would have."""
        return Points(self._space.to_features(rows), np.zeros(len(rows)), np.full(len(rows), -1))

    def forecast(self, points: Points) -> list[Forecast]:
        """Forecasts the values of points in the objective's own unit."""
        mean, deviation = self.posterior.predict(points)
        ends = [self._scale.restore(mean + side * NORMAL_95 * deviation) for side in (0.0, -1.0, 1.0)]
        return [
            Forecast(expected=float(middle), low=min(float(one), float(other)), high=max(float(one), float(other)))
            for middle, one, other in zip(*ends, strict=True)
        ]


class CurveModel:
    """Fits a Gaussian process to the curves of an Optuna study; all its state is in that study."""

    def __init__(self, study: Study) -> None:
        self.space = UnitCube(study.space, study.conditions)
        self._default_epochs = study.training.epochs
        self._sign = 1.0 if study.objective.direction == "maximize" else -1.0
        self._kernel = Kernel(self.space.feature_keys)
        self._finished: dict[int, Curve] = {}

    def num_epochs(self, trial: FrozenTrial) -> int:
        """Returns the number of epochs that the trial is to have."""
        return int(trial.params.get("training.epochs", self._default_epochs))

    def predict_final_values(self, study: optuna.Study) -> FinalValues | None:
        """Fits the model to the study's curves; returns none before there is any curve.

        Trials without a value yet are taken to end as expected (kriging believer), so that others are proposed
        elsewhere.
        """
        trials = [t for t in study.get_trials(deepcopy=False) if t.params and t.state != TrialState.WAITING]
        curves = [self._read(trial) for trial in trials]
        with_values = [curve for curve in curves if curve.values]
        if not with_values:
            return None
        seen = _choose(with_values)
        worst = min(curve.values[-1] for curve in seen)
        failed = [curve for curve in curves if curve.state == TrialState.FAIL][-MAX_FAILED:]
        features = np.array([curve.features for curve in (*seen, *failed)])
        counts = [len(curve.values) for curve in seen] + [1] * len(failed)
        points = Points(
            np.repeat(features, counts, axis=0),
            np.array([s for curve in seen for s in curve.log_shares] + [0.0] * len(failed)),
            np.repeat(np.array([curve.number for curve in (*seen, *failed)]), counts),
        )
        raw = np.array([value for curve in seen for value in curve.values] + [worst] * len(failed))
        values, scale = _normalize(raw, np.array([curve.values[-1] for curve in seen]), self._sign)
        theta = self._fit_hyperparameters(study, points, values, len(with_values))
        posterior = Posterior(self._kernel, theta, points, values)
        begun = [curve for curve in curves if curve.state == TrialState.RUNNING and not curve.values]
        if begun:
            posterior = posterior.condition_on_mean(build_final_points(begun))
        return FinalValues(posterior, seen, self.space, float(values.max()), scale)

    def _read(self, trial: FrozenTrial) -> Curve:
        """Reads the trial's curve; a failed trial has none. A complete one ended where it stopped, however early."""
        known = self._finished.get(trial.number)
        if known is not None:
            return known
        reports = sorted(trial.intermediate_values.items()) if trial.state != TrialState.FAIL else ()
        steps = [step for step, value in reports if math.isfinite(value)]
        looks = {GRACE_EPOCHS, *(round(steps[-1] / 2**look) for look in range(LOOKS))} if steps else set()
        log_shares, values, best = [], [], -math.inf
        for step in steps:
            best = max(best, self._sign * trial.intermediate_values[step])
            if step in looks and step >= min(GRACE_EPOCHS, self.num_epochs(trial)):
                log_shares.append(math.log(min(step / self.num_epochs(trial), 1.0)))
                values.append(best)
        if trial.state == TrialState.COMPLETE and steps and (not values or log_shares[-1] < 0):
            log_shares.append(0.0)
            values.append(best)
        row = self.space.to_row(trial.params)
        features = self.space.to_features(row[None])[0]
        curve = Curve(trial.number, trial.state, row, features, tuple(log_shares), tuple(values))
        if trial.state.is_finished():
            self._finished[trial.number] = curve
        return curve

    def _fit_hyperparameters(self, study: optuna.Study, points: Points, values: Array, num_trials: int) -> Array:
        """Returns the stored hyperparameters; fits and stores them anew once there are enough further trials."""
        theta = prior_mean(self._kernel.num_keys)
        stored = study.user_attrs.get(HYPERPARAMETERS)
        if stored is not None and len(stored["theta"]) == len(theta):
            if num_trials < REFIT_GROWTH * stored["trials"]:
                return np.array(stored["theta"])
            theta = 0.5 * (theta + np.array(stored["theta"]))  # a start that forgets a bad optimum
        if num_trials < MIN_FITTED:
            return theta
        theta = np.round(self._kernel.fit(points, values, theta), 6)
        study.set_user_attr(HYPERPARAMETERS, {"trials": num_trials, "theta": theta.tolist()})
        return theta


def _choose(curves: list[Curve]) -> list[Curve]:
    """Chooses curves up to MAX_OBSERVATIONS: running ones, the best for one half of it, the latest; by number."""
    chosen: dict[int, Curve] = {}
    room = MAX_OBSERVATIONS
    running = [curve for curve in curves if curve.state == TrialState.RUNNING]
    best_first = sorted(curves, key=lambda curve: -curve.values[-1])
    for order, reserve in ((running, 0), (best_first, MAX_OBSERVATIONS // 2), (reversed(curves), 0)):
        for curve in order:
            if curve.number not in chosen and room - len(curve.values) >= reserve:
                chosen[curve.number] = curve
                room -= len(curve.values)
    return [chosen[number] for number in sorted(chosen)]


@dataclass(frozen=True, slots=True)
class ValueScale:
    """Leads back from the model's scale to the objective's own unit."""

    sign: float
    """Of the objective: 1 where greater is better, else -1."""
    middle: float
    spread: float
    mean: float
    deviation: float

    def restore(self, scaled: Array) -> Array:
        """Returns the objective's values for those of the model's scale."""
        values = scaled * self.deviation + self.mean
        with np.errstate(over="ignore"):
            values = np.where(values < 0, -np.expm1(np.maximum(-values, 0.0)), values)
        return np.asarray(self.sign * (values * self.spread + self.middle))


def _normalize(values: Array, last: Array, sign: float) -> tuple[Array, ValueScale]:
    """Scales the values to mean 0 and deviation 1, logarithmically below the median of `last`; returns also the way
    back to an objective of this sign.

    Else trials that do not learn at all would take up the whole scale.
    """
    middle, high = np.quantile(last, [0.5, 0.9])
    spread = max(float(high - middle), 1e-9 + 1e-6 * abs(float(middle)))
    scaled = (values - middle) / spread
    scaled = np.where(scaled < 0, -np.log1p(np.maximum(-scaled, 0.0)), scaled)
    mean, deviation = scaled.mean(), max(float(scaled.std()), 1e-6)
    scale = ValueScale(sign, float(middle), spread, float(mean), deviation)
    return np.asarray((scaled - mean) / deviation), scale
