"""Stores a trial's configuration beside its weights: all that is needed to rebuild its model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from raysweep import atomic_files, config_fields, file_guard
from raysweep.config import require
from raysweep.data.images import DataInfo
from raysweep.errors import CorruptFileError
from raysweep.file_guard import FROM_BACKUP
from raysweep.run_folder import TrialFolder
from raysweep.trial_config import TrialConfig
from raysweep.trial_result import Params

WHAT = "the configuration of a trial"


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberFormat:
    """Says what `training.precision=auto` is for a network in a run."""

    precision: Literal["fp32", "bf16"]
    channels_last: bool
    images_per_s: Mapping[str, float] = field(default_factory=dict)
    """Speed of each candidate as measured; empty: none was."""
    machine: str = ""
    """On which it was measured."""

    def apply(self, config: TrialConfig) -> TrialConfig:
        """Returns the configuration with it; where bf16 is faster it stays `auto`: fp32 where there are no units."""
        precision = "fp32" if self.precision == "fp32" else config.training.precision
        training = dataclasses.replace(config.training, precision=precision, channels_last=self.channels_last)
        return dataclasses.replace(config, training=training)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """Holds the content of a trial's config.json."""

    number: int
    finalist: int | None = None
    """Number of the training that is of the trial's configuration again; none: it is the trial's own."""
    params: Params
    config: TrialConfig
    info: DataInfo
    number_format: NumberFormat | None = None
    """What `training.precision=auto` is; none: it is decided by what computes."""

    @property
    def settled_config(self) -> TrialConfig:
        """The configuration as the trial ran it."""
        return self.config if self.number_format is None else self.number_format.apply(self.config)


def save_config(
    path: Path,
    number: int,
    config: TrialConfig,
    info: DataInfo,
    params: Mapping[str, Any],
    finalist: int | None = None,
    number_format: NumberFormat | None = None,
) -> None:
    """Writes what is needed, beside the weights, to rebuild a trial's model."""
    values = {"number": number, "params": dict(params), "config": config.to_json(), "data": config_fields.to_json(info)}
    if finalist is not None:
        values["finalist"] = finalist
    if number_format is not None:
        values["number_format"] = config_fields.to_json(number_format)
    atomic_files.write_json(path, values, checksum=True)


def load_config(path: Path, remedy: str = FROM_BACKUP) -> TrialRecord:
    """Loads what `save_config` wrote.

    Raises:
        CorruptFileError: the file is damaged.
        RefusedFileError: it names code that may not be run.
    """
    return file_guard.read_json(path, WHAT, remedy, _from_json)


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
    number_format = values.get("number_format")
    return TrialRecord(
        number=number,
        finalist=finalist,
        params=params,
        config=TrialConfig.from_json(values["config"]),
        info=config_fields.from_json(DataInfo, values["data"]),
        number_format=number_format and config_fields.from_json(NumberFormat, number_format),
    )
