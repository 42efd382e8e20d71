"""Rebuilds a trained model from the configuration and the weights that were stored of it."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from raysweep import file_guard, own_code
from raysweep.atomic_files import Json
from raysweep.config import require
from raysweep.data.images import DataInfo
from raysweep.data.sources import check_source_name
from raysweep.errors import UsageError
from raysweep.file_guard import FROM_BACKUP
from raysweep.kept_model import REMEDY, check_model
from raysweep.run_folder import RunFolder
from raysweep.task_config import load_task_config
from raysweep.tasks import TASKS
from raysweep.train import checkpoint
from raysweep.train.precision import forbid_tf32
from raysweep.train.task import Task, build_task
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import WHAT, load_config


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


def import_code(run_folder: RunFolder) -> None:
    """Imports the code of somebody's own that a run names, and so runs it: task, source of images, networks and such.

    Files of networks, losses, metrics and augmentations are those that `best/` has; the others are looked for where
    they were.

    Raises:
        UsageError: there is no such code.
        CorruptFileError: a file of it in `best/` is damaged, or gone.
    """
    if not run_folder.best.config.is_file():
        return
    check_model(run_folder.best, with_detector=False)
    kind, task, source = file_guard.read_json(run_folder.best.config, WHAT, REMEDY, _find_code)
    TASKS.load(kind)
    check_source_name(source)
    config = load_task_config(kind, task, trusted=True)
    for place, digest in getattr(config, "code", {}).items():
        path = run_folder.best.code(Path(place).name, digest)
        if place.endswith(".py"):
            with file_guard.guard(path, "code that the model is made by", REMEDY):
                own_code.unpack_files({place: path.read_bytes()})


def _find_code(values: Json) -> tuple[str, Json, str]:
    """Returns the name of the task, its configuration and the source of images in a trial's configuration."""
    task, source = dict(values["config"]["task"]), values["config"]["data"]["source"]
    kind = task.pop("kind")
    require(
        isinstance(kind, str) and isinstance(source, str), "a task and a source of images are names", (kind, source)
    )
    return kind, task, source


def load_best(run_folder: RunFolder, device: torch.device, *, with_detector: bool = True) -> StoredModel:
    """Rebuilds the best model of a run; `with_detector` as of `check_model`.

    Raises:
        UsageError: the run has none.
        CorruptFileError: a file of `best/` is damaged, or another than was kept.
    """
    check_model(run_folder.best, with_detector=with_detector)
    return load_model(run_folder.best.weights, run_folder.best.config, device, REMEDY)


def load_model(weights: Path, config: Path, device: torch.device, remedy: str = FROM_BACKUP) -> StoredModel:
    """Rebuilds the model of a trial or of a folder in which one is kept.

    From then on CUDA computes fp32 in this process as it did when the model was validated: without TF32.

    Raises:
        UsageError: the files are not there.
        CorruptFileError: one of them is damaged.
    """
    for path in (weights, config):
        if not os.path.lexists(path):
            raise UsageError(f"no {path}; a finished run has it: end the run, or make it again, with --resume")
    forbid_tf32()
    record = load_config(config, remedy)
    with file_guard.guard(weights, "weights of the model beside it", remedy):
        task = build_task(record.settled_config, record.info)
        modules = task.load_modules()
        facts = checkpoint.load_weights(weights, modules)
        require({"epoch", "value"} <= facts.keys(), "weights must say their epoch and value", list(facts))
    for module in modules.values():
        module.to(device).eval()
    return StoredModel(
        number=record.number,
        finalist=record.finalist,
        config=record.settled_config,
        info=record.info,
        task=task,
        modules=modules,
        facts=facts,
    )
