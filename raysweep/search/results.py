"""Defines the results of a run, and writes and reads them as results.json. Imports no torch."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysweep import atomic_files, config_fields, file_guard
from raysweep.atomic_files import Json
from raysweep.cluster.capacity import Node
from raysweep.config import Objective, require
from raysweep.data.images import DataInfo
from raysweep.errors import UsageError
from raysweep.evaluate.test_figures import COMMON, TestFigures
from raysweep.file_guard import FROM_BACKUP
from raysweep.run_folder import RunFolder
from raysweep.trial_result import BASELINE, Params, TrialResult

WHAT = "the results of a run"
SCHEMA_VERSION = 1
"""Of results.json; files without one are from before there were versions, and have the keys of version 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalistRecord:
    """Describes a configuration of the search that was trained again."""

    trial: int
    """Its number in the search."""
    params: Params
    """Its point of the space."""
    search_value: float | None
    """Its objective in the search; none: it did not complete there."""
    trainings: tuple[int, ...]
    """Numbers of its trainings, each with a seed of its own; `runs` in results.json."""
    values: tuple[float | None, ...]
    """The objective of each training; none: it failed."""
    errors: tuple[str | None, ...]
    """Why each training failed; none: it did not."""
    mean: float | None
    """Over all seeds; none: one failed."""
    low: float | None
    """Lower end of the mean's 95 % interval; none: there is no mean, or all seeds agree."""
    high: float | None
    """Upper end of it."""
    optimism: float | None
    """The search's value minus the mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalistsLift:
    """States the winner's mean minus the baseline's, with its 95 % interval."""

    difference: float
    low: float | None
    """None: all seeds of each agree, and there is no interval."""
    high: float | None
    includes_zero: bool
    """Whether no lift is shown; without an interval none is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalistsRecord:
    """Sums up what training the best configurations again said of the search."""

    requested: int
    """How many finalists were asked for, beside the baseline."""
    seeds: int
    """How many seeds were asked for; a configuration may have trainings with more from before."""
    intervals: str
    """How the intervals were computed."""
    configurations: tuple[FinalistRecord, ...]
    """The baseline first."""
    winner: int | None
    """Number of its trial in the search; none: each configuration has a seed that failed."""
    optimism: float | None
    """Of the configuration that led the search."""
    lift: FinalistsLift | None
    """The winner's mean minus the baseline's; none: one of them has no mean."""

    def list_seeds(self) -> dict[str, tuple[int, ...]]:
        """Lists the trainings of the winner, as `best`, and of the baseline where none of its seeds failed."""
        if self.winner is None:
            return {}
        whole = {found.trial: found.trainings for found in self.configurations if found.mean is not None}
        names = {"best": self.winner} if self.winner == BASELINE else {"best": self.winner, "baseline": BASELINE}
        return {name: whole[trial] for name, trial in names.items() if trial in whole}


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Describes the nodes of the cluster as the run ended."""

    processor: str
    num_nodes: int
    num_cpus: float
    num_gpus: float
    price_per_hour: float | None = None
    """Of all nodes that are paid for, in the currency of the cluster's configuration; none: not known."""

    @staticmethod
    def describe(nodes: Sequence[Node], price_per_hour: float | None = None) -> "Machine":
        """Sums up nodes."""
        return Machine(
            price_per_hour=price_per_hour,
            processor=platform.machine(),
            num_nodes=len(nodes),
            num_cpus=sum(node.num_cpus for node in nodes),
            num_gpus=sum(node.num_gpus for node in nodes),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Holds what a finished run found."""

    schema_version: int = SCHEMA_VERSION
    """Of this file."""
    study: str
    """Its name."""
    objective: Objective
    """What was searched for: `metric` and `direction`."""
    second_objective: Objective | None = None
    """The same of a second one; none: there was none."""
    pareto_front: tuple[int, ...] = ()
    """Trials from the best by the first objective on; empty with one objective."""
    max_epochs: int | None = None
    """What `--max-epochs` limited trials to; none: nothing."""
    trials: tuple[TrialResult, ...]
    """All of them, by number."""
    best: TrialResult
    """The trial that `best/` is from; of finalists the winner's best seed, under its number in the search."""
    baseline: TrialResult | None
    """Trial 0; none: it has no result."""
    finalists: FinalistsRecord | None = None
    """None: none were asked for."""
    test: TestFigures
    """What the test images said."""
    data: DataInfo
    """Facts of the images."""
    machine: Machine
    """The nodes as the run ended: `processor`, `num_nodes`, `num_cpus`, `num_gpus`."""
    duration_s: float
    """Wall time of the session that ended the run."""

    def __post_init__(self) -> None:
        require(self.best.value is not None, "the best trial must have a value", self.best.value)

    def to_json(self) -> Json:
        """Returns the content of results.json."""
        two = self.second_objective is not None
        front = {
            "second_objective": config_fields.to_json(self.second_objective),
            "pareto_front": list(self.pareto_front),
        }
        return {
            "schema_version": self.schema_version,
            "study": self.study,
            "objective": config_fields.to_json(self.objective),
            **(front if two else {}),
            "max_epochs": self.max_epochs,
            "trials": [_trial_to_json(trial, two) for trial in self.trials],
            "best": _trial_to_json(self.best, two),
            "baseline": self.baseline and _trial_to_json(self.baseline, two),
            "finalists": self.finalists and _finalists_to_json(self.finalists),
            "test": self.test.to_json(),
            "data": config_fields.to_json(self.data),
            "machine": {key: value for key, value in config_fields.to_json(self.machine).items() if value is not None},
            "duration_s": self.duration_s,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Results":
        """Builds the results from the content of a results.json of this version or an earlier one.

        Raises:
            RefusedFileError: a later version wrote it.
            UsageError: it is not valid.
        """
        file_guard.check_version(WHAT, values, SCHEMA_VERSION)
        finalists = values.get("finalists")
        return config_fields.from_json(
            Results,
            {
                **values,
                "trials": [_trial_from_json(trial) for trial in values["trials"]],
                "best": _trial_from_json(values["best"]),
                "baseline": values["baseline"] and _trial_from_json(values["baseline"]),
                "finalists": finalists and _finalists_from_json(finalists),
                "test": _figures_from_json(values["test"]),
            },
        )


def load_results(folder: RunFolder) -> Results:
    """Reads the results of a finished run.

    Raises:
        UsageError: the folder is not that of a finished run, or a later version wrote results.json.
        CorruptFileError: results.json is damaged.
    """
    if not folder.results.is_file():
        raise UsageError(f"{folder.path} is not the folder of a finished run: it has no {folder.results.name}")
    remedy = f"{FROM_BACKUP}, or go on with --resume, which writes it again once it is removed"
    return file_guard.read_json(folder.results, WHAT, remedy, Results.from_json)


def save_results(folder: RunFolder, results: Results) -> None:
    """Writes results.json, atomically."""
    atomic_files.write_json(folder.results, results.to_json(), checksum=True)


def _trial_to_json(trial: TrialResult, two_objectives: bool) -> Json:
    """Returns a trial as results.json has it; `values` are both objectives of the best epoch, where there are two."""
    row = config_fields.to_json(trial)
    second = row.pop("second_value")
    return {**row, "values": [trial.value, second]} if two_objectives else row


def _trial_from_json(values: Mapping[str, Any]) -> Json:
    row = {name: value for name, value in values.items() if name != "values"}
    return {**row, "second_value": values["values"][1]} if "values" in values else row


def _figures_from_json(values: Mapping[str, Any]) -> Json:
    """Returns the fields of the test figures: those of the task are one, `own`."""
    own = {name: value for name, value in values.items() if name not in COMMON}
    return {**{name: values[name] for name in COMMON if name in values}, "own": own}


def _finalists_to_json(record: FinalistsRecord) -> Json:
    def rename(row: Json) -> Json:
        return {"runs" if name == "trainings" else name: value for name, value in row.items()}

    values = config_fields.to_json(record)
    return {**values, "configurations": [rename(row) for row in values["configurations"]]}


def _finalists_from_json(values: Mapping[str, Any]) -> Json:
    return {**values, "configurations": [{**row, "trainings": row["runs"]} for row in values["configurations"]]}
