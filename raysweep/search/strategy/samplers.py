"""Samplers by name: what to try next."""

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from raysweep.config import SamplerName
from raysweep.search.strategy.curve_model import CurveModel, Ends, ends_of
from raysweep.search.strategy.gaussian_process import Array
from raysweep.study import Study

STARTUP = (3, 8)
"""The first trials are random: a third of all, within these limits."""
NUM_DRAWN = 300
NUM_LEADERS, NUM_NEAR = 6, 40
"""Candidates: points drawn uniformly, and points near each of the trials that lead."""
NUM_JOINT = 200
"""Candidates among which a joint draw from the model chooses."""


class CurveSampler(BaseSampler):
    """Proposes where the model of learning curves expects a good end.

    Every other trial takes the upper confidence bound, mean plus one deviation, the others the maximum of a joint draw
    (Thompson sampling): one settles, the other keeps parallel workers apart. Everything comes from the stored study,
    the seed and the trial's number.
    """

    def __init__(self, study: Study, model: CurveModel) -> None:
        self._seed = study.seed
        self._model = model
        low, high = STARTUP
        self._num_startup = min(high, max(low, study.budget.trials // 3))
        self._space = dict(model.space.distributions)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, conditional keys included."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A whole point: the keys that exist there."""
        random = np.random.default_rng((self._seed, trial.number))
        ends = self._model.ends(study) if trial.number >= self._num_startup else None
        if ends is None:
            return self._model.space.to_params(self._model.space.draw(random, 1)[0])
        rows = self._candidates(random, ends)
        return self._model.space.to_params(rows[_choose(random, ends, rows, joint=trial.number % 2 == 1)])

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, for a key that the space does not have at the point."""
        sampler = RandomSampler(seed=(self._seed + trial.number) % 2**32)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _candidates(self, random: np.random.Generator, ends: Ends) -> Array:
        space = self._model.space
        mean, _ = ends.posterior.predict(ends_of(ends.curves))
        leaders = [ends.curves[index].row for index in np.argsort(-mean)[:NUM_LEADERS]]
        near = [space.perturb(random, row, NUM_NEAR) for row in leaders]
        return np.vstack([space.draw(random, NUM_DRAWN), *near])


def _choose(random: np.random.Generator, ends: Ends, rows: Array, *, joint: bool) -> int:
    """Index of the candidate to try."""
    points = ends.of_points(rows)
    mean, deviation = ends.posterior.predict(points)
    if not joint:
        return int(np.argmax(mean + deviation))
    hopeful = np.argsort(-(mean + 2 * deviation))[:NUM_JOINT]
    return int(hopeful[np.argmax(ends.posterior.draw(points[hopeful], random, 1)[0])])


def build_sampler(name: SamplerName, study: Study, num_trials: int = 0) -> BaseSampler:
    """The sampler of that name. One that goes on after `num_trials` trials repeats no random numbers."""
    seed = study.seed + num_trials
    num_startup = min(10, max(STARTUP[0], study.budget.trials // 3))
    match name:
        case "default" if not study.space:  # all trials are at the one point that there is
            return RandomSampler(seed=seed)
        case "default" if study.second_objective is None:
            return CurveSampler(study, CurveModel(study))
        case "default" | "tpe":  # two objectives have no curves
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=num_startup)
        case "random":
            return RandomSampler(seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=num_startup, warn_independent_sampling=False)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=seed, n_startup_trials=num_startup, warn_independent_sampling=False
            )
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=min(50, max(4, study.budget.trials // 5)), seed=seed)
