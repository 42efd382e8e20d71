"""The state of a training loop, and how it becomes tensors and JSON for one file."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raysweep.train.optim import Schedule, StateDict

Prepare = Callable[[nn.Module], nn.Module]
"""Wraps a module for training on several workers (DDP), or returns it as it is."""


@dataclass(kw_only=True)
class TrainState:
    """Holds the named modules, optimizers, schedules, averages, counters and the metric history of one trial."""

    modules: dict[str, nn.Module]
    """The bare modules: evaluated and stored."""
    prepared: dict[str, nn.Module]
    """The same modules as `prepare` returned them: called in training."""
    optimizers: dict[str, Optimizer]
    schedules: dict[str, Schedule] = field(default_factory=dict)
    averages: dict[str, AveragedModel] = field(default_factory=dict)
    """Exponential moving averages of modules, evaluated and stored in their place."""
    epoch: int = 0
    """Epochs finished."""
    step: int = 0
    """Optimizer steps done."""
    best_value: float | None = None
    best_epoch: int = 0
    epochs_since_best: int = 0
    cause: str | None = None
    """Why the task ended the trial before its last epoch; none: it did not."""
    history: list[dict[str, float]] = field(default_factory=list)
    """The metrics of each finished epoch."""

    def best_modules(self) -> dict[str, nn.Module]:
        """Returns the modules to evaluate and to keep: the averages where there are any."""
        return {
            name: self.averages[name].module if name in self.averages else module
            for name, module in self.modules.items()
        }

    def state_dict(self) -> StateDict:
        """Returns everything as nested dicts, lists, numbers and tensors."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "schedules": {name: schedule.state_dict() for name, schedule in self.schedules.items()},
            "counters": {name: getattr(self, name) for name in COUNTERS},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Takes up what `state_dict` gave, so that the next steps are the ones that would have followed."""
        for part in ("modules", "averages", "optimizers", "schedules"):
            for name, owner in getattr(self, part).items():
                owner.load_state_dict(state[part][name])
        for name in COUNTERS:
            setattr(self, name, state["counters"][name])


COUNTERS = ("epoch", "step", "best_value", "best_epoch", "epochs_since_best", "cause", "history")


def build_average(module: nn.Module, decay: float) -> AveragedModel:
    """Builds an exponential moving average of a module's parameters and buffers."""
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
    return average.requires_grad_(False)


def to_tensors(value: Any, tensors: dict[str, torch.Tensor], prefix: str = "") -> Any:
    """Returns plain JSON in which every tensor is replaced by a reference into `tensors`, which is filled."""
    if isinstance(value, torch.Tensor):
        tensors[prefix] = value.detach()
        return {"tensor": prefix}
    if isinstance(value, dict):
        return {"items": [[key, to_tensors(item, tensors, f"{prefix}/{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [to_tensors(item, tensors, f"{prefix}/{index}") for index, item in enumerate(value)]
    return value


def from_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Puts together what `to_tensors` took apart."""
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: from_tensors(item, tensors) for key, item in value["items"]}
    if isinstance(value, list):
        return [from_tensors(item, tensors) for item in value]
    return value
