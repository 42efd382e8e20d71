"""Reads what a run's folder has, at any time of the run, for its report. Changes nothing there."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from raysweep import config_fields
from raysweep.config import Objective
from raysweep.errors import RaysweepError, UsageError
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results, load_results
from raysweep.search.session.identity import StudyRecord, load_record
from raysweep.search.session.storage import guard_study, open_storage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """Holds what is stored of a run, finished or under way."""

    folder: RunFolder
    record: StudyRecord
    optuna_study: optuna.Study | None
    """None: no trial has begun, or the study cannot be read."""
    results: Results | None
    """None: the run is not finished."""
    faults: list[str] = field(default_factory=list)
    """What cannot be read, a sentence each."""

    @property
    def study(self) -> Mapping[str, Any]:
        """The study as study.json has it."""
        return self.record.study

    @property
    def objectives(self) -> list[Objective]:
        """The objective and, where there is one, the second."""
        stored = (self.study["objective"], self.study.get("second_objective"))
        return [config_fields.from_json(Objective, values) for values in stored if values is not None]

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that have begun, by number."""
        if self.optuna_study is None:
            return []
        return [t for t in self.optuna_study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]


def load_view(folder: RunFolder) -> RunView:
    """Reads a run's folder; what of it is damaged is named in `faults`.

    Raises:
        UsageError: it is not the folder of a run.
        CorruptFileError: study.json is damaged.
    """
    record = load_record(folder)
    if record is None:
        raise UsageError(f"{folder.path} is not the folder of a run: it has no {folder.study.name}")
    faults: list[str] = []
    optuna_study, results = None, None
    try:
        optuna_study = load_optuna_study(folder, record)
    except RaysweepError as error:
        faults.append(str(error))
    if folder.results.is_file():
        try:
            results = load_results(folder)
        except RaysweepError as error:
            faults.append(str(error))
    return RunView(folder=folder, record=record, optuna_study=optuna_study, results=results, faults=faults)


def load_optuna_study(folder: RunFolder, record: StudyRecord) -> optuna.Study | None:
    """Opens the Optuna study of a run to read it, while a driver may write to it; none before there is one.

    Raises:
        RaysweepError: it cannot be read, or is in a database whose password is not stored.
    """
    url, name = record.identity.storage_url, record.identity.study_name
    with guard_study(folder, url):
        if url is not None:
            storage = open_storage(folder, url)
        elif folder.journal.is_file():
            storage = JournalStorage(JournalFileBackend(str(folder.journal)))
        else:
            return None
        with contextlib.suppress(KeyError):  # it is not there yet
            return optuna.load_study(study_name=name, storage=storage)
    return None
