"""Changes the search space of a run: the trials that still fit are taken over.

A finished trial of Optuna cannot be changed, nor can the choices of a categorical parameter in a study. So a new
Optuna study is made in the same storage, with all trials under their old numbers, at which their folders are: those
that fit at their point of the new space, the others as FAIL. What was in flight and fits goes on.
"""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from raysweep import config_fields
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder
from raysweep.study import Study
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import load_trial
from raysweep.trial_result import BASELINE, Params


def change_space(study: Study, storage: BaseStorage, study_name: str, run_folder: RunFolder) -> str:
    """Makes an Optuna study for the changed `study` from the one named, and returns its name.

    Raises:
        UsageError: the baseline does not fit, so that it is another study.
    """
    before = optuna.load_study(study_name=study_name, storage=storage)
    taken = [_take_over(study, trial, run_folder) for trial in before.get_trials(deepcopy=False)]
    if any(trial.user_attrs.get("left_out") for trial in taken[BASELINE : BASELINE + 1] if trial is not None):
        raise UsageError(
            "trial 0, the baseline, does not fit the changed study, so that nothing could be compared; only the search "
            "space may change: start a new run with another --name"
        )
    names = optuna.get_all_study_names(storage)
    base = study_name.partition("~")[0]
    name = next(new for count in range(2, len(names) + 3) if (new := f"{base}~{count}") not in names)
    directions = [objective.direction for objective in study.objectives]
    after = optuna.create_study(study_name=name, storage=storage, directions=directions)
    after.add_trials([trial for trial in taken if trial is not None])
    return name


def _take_over(study: Study, trial: FrozenTrial, run_folder: RunFolder) -> FrozenTrial | None:
    """Returns the trial as the changed study has it; none, as of all that come after it, if it has not begun."""
    folder = run_folder.trial(trial.number)
    if trial.state == TrialState.WAITING or not folder.config.is_file():
        return None
    config = load_trial(folder).config
    params = find_point(study, config)
    user_attrs = dict(trial.user_attrs)
    if params is None:
        user_attrs |= {"left_out": True, "error": f"left out of the changed space; it was {trial.state.name}"}
    taken = optuna.create_trial(
        state=TrialState.FAIL if params is None else trial.state,
        values=trial.values if params is not None and trial.state == TrialState.COMPLETE else None,
        params=params or {},
        distributions=study.space_at(params) if params else {},
        user_attrs=user_attrs,
        system_attrs={key: value for key, value in trial.system_attrs.items() if key != "fixed_params"},
        intermediate_values=trial.intermediate_values,
    )
    taken.datetime_start = trial.datetime_start
    if trial.datetime_complete is not None:
        taken.datetime_complete = trial.datetime_complete
    return taken


def find_point(study: Study, config: TrialConfig) -> Params | None:
    """Finds the point of the study's space at which it would run `config`; none when it never would."""
    parts = {part: getattr(config, part) for part in ("task", "data", "training")}
    values = {
        f"{part}.{name}": v for part, owner in parts.items() for name, v in config_fields.list_fields(owner).items()
    }
    if config.task.kind != study.task.kind:
        return None
    params = {key: values[key] for key in study.space_at(values)}
    if not all(_contains(distribution, params[key]) for key, distribution in study.space_at(params).items()):
        return None
    there = {**study.trial_config(params, 0).to_json(), "seed": config.seed}
    here = config.to_json()
    here["data"]["source"] = there["data"]["source"]
    return params if here == there else None


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):  # no choice of a categorical one, or no number
        return False
