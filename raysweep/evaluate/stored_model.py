"""Stores a trained model as a configuration and weights, and rebuilds it from them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raysweep import atomic_files, config_fields
from raysweep.atomic_files import Json
from raysweep.config import TrialConfig
from raysweep.data.images import DataInfo
from raysweep.data.sources import check_source_name
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder
from raysweep.tasks import TASKS
from raysweep.train import checkpoint
from raysweep.train.task import Task, build_task


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredModel:
    """A model with the configuration it was trained with, on a device."""

    number: int
    """The trial."""
    finalist: int | None = None
    """Number of the training that is of the trial's configuration again; none: it is the trial's own model."""
    config: TrialConfig
    info: DataInfo
    task: Task
    modules: dict[str, nn.Module]
    facts: Json
    """`epoch` and `value` of the weights."""


def describe_model(model: StoredModel) -> str:
    """Names the trial and epoch that the weights are of, for titles."""
    again = "" if model.finalist is None else f" (trained again: finalist {model.finalist})"
    return f"trial {model.number}{again}, epoch {model.facts['epoch']}"


def save_config(path: Path, number: int, config: TrialConfig, info: DataInfo, params: Mapping[str, Any]) -> None:
    """Writes what is needed, beside the weights, to rebuild a trial's model."""
    atomic_files.write_json(
        path,
        {"number": number, "params": dict(params), "config": config.to_json(), "data": config_fields.to_json(info)},
    )


def import_code(run_folder: RunFolder) -> None:
    """Imports the task and the source of images that a run names, where they are somebody's own: runs their code.

    Raises:
        UsageError: there is no such code.
    """
    if run_folder.best.config.is_file():
        config = json.loads(run_folder.best.config.read_text(encoding="utf-8"))["config"]
        TASKS.load(config["task"]["kind"])
        check_source_name(config["data"]["source"])


def load_model(weights: Path, config: Path, device: torch.device) -> StoredModel:
    """Rebuilds the model of a trial or of a run's `best/`.

    Raises:
        UsageError: the files are not there.
        CorruptFileError: the weights do not match their digest.
    """
    for path in (weights, config):
        if not path.is_file():
            raise UsageError(f"no {path}; a finished run has it: run `raysweep tune` again under another --name")
    values = json.loads(config.read_text(encoding="utf-8"))
    trial_config = TrialConfig.from_json(values["config"])
    info = config_fields.from_json(DataInfo, values["data"])
    task = build_task(trial_config, info)
    modules = task.load_modules()
    facts = checkpoint.load_weights(weights, modules)
    for module in modules.values():
        module.to(device).eval()
    return StoredModel(
        number=values["number"],
        finalist=values.get("finalist"),
        config=trial_config,
        info=info,
        task=task,
        modules=modules,
        facts=facts,
    )
