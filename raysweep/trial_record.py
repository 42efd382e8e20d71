"""Stores a trial's configuration beside its weights: all that is needed to rebuild its model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep import atomic_files, config_fields
from raysweep.atomic_files import FROM_BACKUP
from raysweep.config import TrialConfig, require
from raysweep.data.images import DataInfo
from raysweep.errors import CorruptFileError
from raysweep.run_folder import TrialFolder
from raysweep.trial_result import Params

WHAT = "the configuration of a trial"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """Holds the content of a trial's config.json."""

    number: int
    finalist: int | None = None
    """Number of the training that is of the trial's configuration again; none: it is the trial's own."""
    params: Params
    config: TrialConfig
    info: DataInfo


def save_config(
    path: Path, number: int, config: TrialConfig, info: DataInfo, params: Mapping[str, Any], finalist: int | None = None
) -> None:
    """Writes what is needed, beside the weights, to rebuild a trial's model."""
    values = {"number": number, "params": dict(params), "config": config.to_json(), "data": config_fields.to_json(info)}
    if finalist is not None:
        values["finalist"] = finalist
    atomic_files.write_json(path, values, checksum=True)


def load_config(path: Path, remedy: str = FROM_BACKUP) -> TrialRecord:
    """Loads what `save_config` wrote.

    Raises:
        CorruptFileError: the file is damaged.
        RefusedFileError: it names code that may not be run.
    """
    return atomic_files.read_json(path, WHAT, remedy, _from_json)


def load_trial(folder: TrialFolder, remedy: str = FROM_BACKUP) -> TrialRecord:
    """Loads the configuration in a trial's folder.

    Raises:
        CorruptFileError: it is damaged, or that of another trial.
        RefusedFileError: it names code that may not be run.
    """
    record = load_config(folder.config, remedy)
    if record.number != folder.number:
        raise CorruptFileError(
            f"{folder.config} must be of trial {folder.number}, got that of trial {record.number}; {remedy}"
        )
    return record


def _from_json(values: Mapping[str, Any]) -> TrialRecord:
    number, finalist, params = values["number"], values.get("finalist"), values["params"]
    require(isinstance(number, int) and isinstance(finalist, int | None), "trials have numbers", (number, finalist))
    require(isinstance(params, dict), "params must be an object", params)
    return TrialRecord(
        number=number,
        finalist=finalist,
        params=params,
        config=TrialConfig.from_json(values["config"]),
        info=config_fields.from_json(DataInfo, values["data"]),
    )
