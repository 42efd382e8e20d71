"""Trains the best configurations of a search again, as the trials of an Optuna study of its own.

The search's study and its trials' folders are only read. A retraining that was interrupted goes on like a search;
asked for with other finalists or another number of seeds, it keeps what has ended.
"""

import dataclasses
import shutil
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from raysweep.config import Budget
from raysweep.run_folder import RunFolder
from raysweep.search.finalists.statistics import Finalist
from raysweep.search.ranking import point_key
from raysweep.search.session.identity import Identity
from raysweep.search.session.storage import has_study, open_storage
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_config import TrialConfig
from raysweep.trial_result import Params, TrialResult

SEED = "seed"
"""Attribute of a trial: which of its configuration's seeds it has, from 0."""
DROPPED = "dropped"
"""Attribute of a trial that had not ended when it was no longer asked for."""


class Retraining(Strategy):
    """Proposes each of the chosen configurations with each of its seeds, and stops none."""

    def __init__(self, study: Study, optuna_study: optuna.Study, chosen: Sequence[TrialResult]) -> None:
        super().__init__(study, optuna_study)
        self.chosen = chosen

    def trial_config(self, number: int, params: Params) -> TrialConfig:
        """Returns the configuration with a seed that no other has, and no trial of the search."""
        seed = self._running[number].user_attrs[SEED]
        return self.study.trial_config(params, f"{point_key(params)}/{seed}")

    def finalists(self) -> list[Finalist]:
        """Returns how the trainings of each chosen configuration ended; those with more seeds from before count too."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        trainings: dict[str, list[TrialResult]] = {}
        for result in self.results():
            if DROPPED not in trials[result.number].user_attrs:
                trainings.setdefault(point_key(result.params), []).append(result)
        return [Finalist(trial=trial, trainings=tuple(trainings[point_key(trial.params)])) for trial in self.chosen]


def open_retraining(
    study: Study, folder: RunFolder, identity: Identity, chosen: Sequence[TrialResult], num_seeds: int
) -> Retraining:
    """Opens the retraining of the `chosen` trials' configurations with so many seeds each; what has ended stays."""
    storage = open_storage(folder, identity.storage_url)
    if not has_study(
        storage, identity.retraining_name
    ):  # the files that there may be are from before the space was changed
        shutil.rmtree(folder.finalists.path, ignore_errors=True)
    optuna_study = optuna.create_study(
        study_name=identity.retraining_name,
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
        direction=study.objective.direction,
        load_if_exists=True,
    )
    wanted = {(point_key(trial.params), seed): trial.params for seed in range(num_seeds) for trial in chosen}
    for trial in optuna_study.get_trials(deepcopy=False):
        known = DROPPED not in trial.user_attrs and wanted.pop(_identify(trial), None) is not None
        if not known and not trial.state.is_finished():
            storage.set_trial_user_attr(trial._trial_id, DROPPED, True)
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    for (_, seed), params in wanted.items():
        optuna_study.enqueue_trial(params, user_attrs={SEED: seed})
    budget = Budget(trials=len(optuna_study.get_trials(deepcopy=False)))
    return Retraining(dataclasses.replace(study, budget=budget), optuna_study, chosen)


def _identify(trial: FrozenTrial) -> tuple[str, int]:
    """Returns configuration and seed."""
    return point_key(trial.system_attrs["fixed_params"]), trial.user_attrs[SEED]
