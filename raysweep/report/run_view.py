"""Reads what a run's folder has, at any time of the run, for its report. Changes nothing there."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from raysweep import config_fields, file_guard
from raysweep.config import Objective, require
from raysweep.data.images import DataInfo
from raysweep.errors import CorruptFileError, RaysweepError, UsageError
from raysweep.run_folder import RunFolder, SearchFolder
from raysweep.search.progress import STATES
from raysweep.search.ranking import rank_results
from raysweep.search.results import Results, load_results
from raysweep.search.session.identity import REMEDY as STUDY_REMEDY
from raysweep.search.session.identity import WHAT as STUDY
from raysweep.search.session.identity import Identity, StudyRecord, load_record, restore_identity
from raysweep.search.session.lock import is_locked
from raysweep.search.session.storage import (
    REMEDY,
    WHAT,
    guard_study,
    hide_password,
    lacks_password,
    open_storage,
)
from raysweep.search.strategy.strategy import read_results
from raysweep.train.history import History, load_history
from raysweep.trial_record import load_trial
from raysweep.trial_result import BASELINE, TrialResult

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """Holds what is stored of a run, finished or under way."""

    folder: RunFolder
    record: StudyRecord
    optuna_study: optuna.Study | None
    """A copy in memory, of all trials that have begun; none: none has, or it cannot be read."""
    results: Results | None
    """Of a finished run, or of one that goes on as it was before; none: it has not been finished yet."""
    is_running: bool
    """Whether a command works in the folder."""
    histories: Mapping[int, History]
    """The metrics of each epoch of trials that have any, by number."""
    info: DataInfo | None
    """Facts of the images; none: no trial has begun."""
    retraining: optuna.Study | None = None
    """A copy of the Optuna study in which finalists are trained again; none: none have begun."""
    retraining_histories: Mapping[int, History] = dataclasses.field(default_factory=dict)
    """The metrics of each epoch of the finalists' trainings, by their number."""
    faults: tuple[str, ...] = ()
    """What is damaged, a sentence each."""
    out_of_reach: str | None = None
    """Why the Optuna study's database cannot be opened, such as for want of its password; none: it can, or is none."""

    @property
    def study(self) -> Mapping[str, Any]:
        """The study as study.json has it."""
        return self.record.study

    @property
    def problems(self) -> tuple[str, ...]:
        """Lists what cannot be read, a sentence each."""
        return self.faults if self.out_of_reach is None else (self.out_of_reach, *self.faults)

    @property
    def objectives(self) -> list[Objective]:
        """The objective and, where there is one, the second."""
        stored = (self.study["objective"], self.study.get("second_objective"))
        return [config_fields.from_json(Objective, values) for values in stored if values is not None]

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that have begun, by number."""
        found = [] if self.optuna_study is None else self.optuna_study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state != TrialState.WAITING]

    @property
    def ended(self) -> list[TrialResult]:
        """How trials ended, by number; as results.json has it where there is no Optuna study."""
        if self.optuna_study is not None:
            return read_results(self.optuna_study, self.objectives)
        return [] if self.results is None else list(self.results.trials)

    @property
    def ended_trainings(self) -> list[TrialResult]:
        """Lists how the finalists' trainings ended, by number; those that were no longer asked for are left out."""
        if self.retraining is None:
            return []
        from raysweep.search.finalists.retraining import DROPPED  # slow: scipy

        trainings = self.retraining.get_trials(deepcopy=False)
        results = read_results(self.retraining, self.objectives[:1])
        return [result for result in results if DROPPED not in trainings[result.number].user_attrs]

    @property
    def best(self) -> TrialResult | None:
        """The trial that the best model is from, or so far would be; none: none has completed."""
        if self.results is not None and not self.has_gone_on:
            return self.results.best
        return next(iter(rank_results(self.ended, self.objectives)), None)

    @property
    def baseline(self) -> TrialResult | None:
        """How trial 0 ended; none: it has not."""
        return next((trial for trial in self.ended if trial.number == BASELINE), None)

    @property
    def has_gone_on(self) -> bool:
        """Tells whether trials have begun or ended since results.json was written."""
        known = 0 if self.results is None else len(self.results.trials)
        return self.results is not None and len(self.trials or self.ended) > known

    @property
    def num_epochs(self) -> Mapping[int, int]:
        """How many epochs each trial was or is to have, by number."""
        planned = self.study["training"]["epochs"]
        return {trial.number: int(trial.params.get("training.epochs", planned)) for trial in self.trials}

    def list_space(self) -> dict[str, BaseDistribution]:
        """Lists all keys of the search space, those of conditions included."""
        conditions = self.study.get("conditions", ())
        spaces = [self.study["space"], *(condition["space"] for condition in conditions)]
        return {key: parse_distribution(stored) for space in spaces for key, stored in space.items()}

    def name_state(self, state: str) -> str:
        """Names one of Optuna's states for a reader: a trial that has not ended runs only where a command does."""
        return STATES.get(state) or ("running" if self.is_running else "interrupted")

    def name_trial(self, number: int) -> str:
        """Names a trial for a reader."""
        return f"trial {number} (baseline)" if number == BASELINE else f"trial {number}"


def parse_distribution(stored: Mapping[str, Any]) -> BaseDistribution:
    """Builds a distribution from what study.json has of it."""
    return json_to_distribution(json.dumps(stored))


def load_view(folder: RunFolder, *, with_histories: bool = True, storage_url: str | None = None) -> RunView:
    """Reads a run's folder; what of it is damaged is named in `faults`.

    with_histories: else neither the metrics of its trials nor its finalists are read, for a list of many runs.
    storage_url: of the Optuna storage with its password, which study.json has not; none: what study.json has.

    Raises:
        UsageError: it is not the folder of a run, or the run's Optuna storage is another.
        CorruptFileError: study.json is damaged.
    """
    record = load_record(folder)
    if record is None:
        raise UsageError(f"{folder.path} is not the folder of a run: it has no {folder.study.name}")
    _check(folder, record)
    if storage_url is not None:
        identity = restore_identity(record.identity, storage_url, record.identity.overrides)
        record = dataclasses.replace(record, identity=identity)
    faults: list[str] = []
    out_of_reach = optuna_study = retraining = None
    try:
        optuna_study = load_optuna_study(folder, record.identity)
    except UsageError as error:
        out_of_reach = str(error)
    except RaysweepError as error:
        faults.append(str(error))
    if with_histories and optuna_study is not None and folder.finalists.path.is_dir():
        finalists = dataclasses.replace(record.identity, study_name=record.identity.retraining_name)
        retraining = _read(faults, lambda: load_optuna_study(folder, finalists))
    results = _read(faults, lambda: load_results(folder)) if folder.results.is_file() else None
    return RunView(
        folder=folder,
        record=record,
        optuna_study=optuna_study,
        results=results,
        is_running=is_locked(folder),
        histories=_load_histories(folder, faults) if with_histories else {},
        info=load_info(folder) if results is None else results.data,
        retraining=retraining,
        retraining_histories=_load_histories(folder.finalists, faults) if with_histories else {},
        faults=tuple(faults),
        out_of_reach=out_of_reach,
    )


def _check(folder: RunFolder, record: StudyRecord) -> None:
    """Reads what a view reads of study.json, of which somebody may have changed it by hand.

    Raises:
        CorruptFileError: it is not there, or of another kind.
    """
    study = record.study
    with file_guard.guard(folder.study, STUDY, STUDY_REMEDY), file_guard.decoding():
        for key in ("name", "seed"):
            study[key]
        for key in ("task", "data", "training", "space", "baseline", "objective", "budget"):
            require(isinstance(study[key], dict), f"{key} of a study must be an object", study[key])
        for part, key, kind in (
            ("task", "kind", str),
            ("data", "source", str),
            ("training", "epochs", int),
            ("budget", "trials", int),
        ):
            value = study[part][key]
            require(isinstance(value, kind), f"{part}.{key} of a study must be of type {kind.__name__}", value)
        config_fields.from_json(Objective, study["objective"])
        if study.get("second_objective") is not None:
            config_fields.from_json(Objective, study["second_objective"])
        for condition in ({"space": study["space"]}, *study.get("conditions", ())):
            for stored in condition["space"].values():
                parse_distribution(stored)
        for point in study.get("points", ()):
            require(isinstance(point, dict), "a point of a study must be an object", point)


def _read(faults: list[str], read: Callable[[], T]) -> T | None:
    """Returns what is read; none, and a sentence more in `faults`, where that is damaged."""
    try:
        return read()
    except RaysweepError as error:
        faults.append(str(error))
        return None


def _load_histories(folder: SearchFolder, faults: list[str]) -> dict[int, History]:
    """Loads the metrics of all trials that have any, by number."""
    histories = {trial.number: _read(faults, partial(load_history, trial)) for trial in folder.list_trials()}
    return {number: history for number, history in histories.items() if history}


def load_info(folder: RunFolder) -> DataInfo | None:
    """Loads the facts of the images from the first trial; none where it has not begun, or may not be read."""
    try:
        return load_trial(folder.trial(BASELINE)).info
    except RaysweepError:
        return None


def load_optuna_study(folder: RunFolder, identity: Identity) -> optuna.Study | None:
    """Copies the Optuna study of a run into memory, also while a driver writes to it; none before there is one.

    Raises:
        UsageError: it is in a database whose password is not stored, or that does not answer.
        RaysweepError: it cannot be read, or is gone.
    """
    url, name = identity.storage_url, identity.study_name
    if url is not None and lacks_password(url):
        raise UsageError(
            f"its Optuna study is in the database {url}, whose password is not stored; `show`, `report`, `replay`, "
            "`evaluate` and `tune --resume` read it with --optuna-storage and the URL with its password"
        )
    storage: BaseStorage
    with guard_study(folder, url), contextlib.ExitStack() as stack:
        if url is not None:
            storage = open_storage(folder, url)
            if isinstance(storage, RDBStorage):  # a page every few seconds is not to hold a connection each
                stack.callback(storage.engine.dispose)
                stack.callback(storage.remove_session)
        elif folder.journal.is_file():
            file_guard.read_json_lines(folder.journal, WHAT, REMEDY, is_growing=True)  # Optuna overlooks some damage
            storage = JournalStorage(JournalFileBackend(str(folder.journal)))
        else:
            return None
        if name not in optuna.get_all_study_names(storage):
            if url is not None and folder.trials.exists():
                where = f"the database {hide_password(url)}"
                raise CorruptFileError(f"{where} must have the Optuna study {name!r}, which is not there; {REMEDY}")
            return None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        stored = optuna.load_study(study_name=name, storage=storage)
        study = optuna.create_study(directions=stored.directions)
        study.add_trials(stored.get_trials(deepcopy=False))
        for key, value in stored.user_attrs.items():
            study.set_user_attr(key, value)
        return study
