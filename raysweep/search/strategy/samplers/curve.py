"""Proposes points by the model of learning curves."""

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from raysweep.search.strategy.curve_model import CurveModel, FinalValues, build_final_points
from raysweep.search.strategy.gaussian_process import Array
from raysweep.search.strategy.reasons import PROPOSAL, note_reason
from raysweep.search.strategy.samplers import MIN_STARTUP
from raysweep.study import Study
from raysweep.trial_result import Params

MAX_STARTUP = 8
"""The first trials are random: a third of all, from MIN_STARTUP to this number."""
NUM_DRAWN = 300
NUM_LEADERS, NUM_NEAR = 6, 40
"""Candidates: points drawn uniformly, and points near each of the trials that lead."""
NUM_JOINT = 200
"""Candidates among which a joint draw from the model chooses."""


class CurveSampler(BaseSampler):
    """Proposes the point of which the model of learning curves expects a good final value.

    Every other trial takes the upper confidence bound, mean plus one deviation, the others the maximum of a joint draw
    (Thompson sampling): one settles, the other keeps parallel workers apart. Everything comes from the stored study,
    the seed and the trial's number.
    """

    def __init__(self, study: Study, model: CurveModel) -> None:
        self._seed = study.seed
        self._model = model
        self._num_startup = min(MAX_STARTUP, max(MIN_STARTUP, study.budget.trials // 3))
        self._space = dict(model.space.distributions)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns the whole space, conditional keys included."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Params:
        """Proposes a whole point: the keys that exist there."""
        random = np.random.default_rng((self._seed, trial.number))
        final = self._model.predict_final_values(study) if trial.number >= self._num_startup else None
        is_named = "fixed_params" in trial.system_attrs  # and takes nothing, or little, of what is proposed here
        if final is None:
            if not is_named:
                note_reason(study, trial, PROPOSAL, by="random")
            return self._model.space.to_params(self._model.space.draw(random, 1)[0])
        rows = self._draw_candidates(random, final)
        joint = trial.number % 2 == 1
        row = rows[_choose(random, final, rows, joint=joint)]
        if not is_named:
            rule = "joint draw" if joint else "upper confidence bound"
            (forecast,) = final.forecast(final.build_points(row[None]))
            note_reason(study, trial, PROPOSAL, forecast, by="model", rule=rule, num_trials=len(final.curves))
        return self._model.space.to_params(row)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draws a random value, for a key that the space does not have at the point."""
        sampler = RandomSampler(seed=(self._seed + trial.number) % 2**32)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _draw_candidates(self, random: np.random.Generator, final: FinalValues) -> Array:
        space = self._model.space
        mean, _ = final.posterior.predict(build_final_points(final.curves))
        leaders = [final.curves[index].row for index in np.argsort(-mean)[:NUM_LEADERS]]
        near = [space.perturb(random, row, NUM_NEAR) for row in leaders]
        return np.vstack([space.draw(random, NUM_DRAWN), *near])


def _choose(random: np.random.Generator, final: FinalValues, rows: Array, *, joint: bool) -> int:
    """Chooses the index of the candidate to try."""
    points = final.build_points(rows)
    mean, deviation = final.posterior.predict(points)
    if not joint:
        return int(np.argmax(mean + deviation))
    hopeful = np.argsort(-(mean + 2 * deviation))[:NUM_JOINT]
    return int(hopeful[np.argmax(final.posterior.draw(points[hopeful], random, 1)[0])])
