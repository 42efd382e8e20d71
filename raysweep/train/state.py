"""The state of a training loop, and how it becomes tensors and JSON for one file."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from raysweep.train.optim import Schedule, StateDict, load_optimizer

Prepare = Callable[[nn.Module], nn.Module]
"""Wraps a module for training on several workers (DDP), or returns it as it is."""


class MovingAverage:
    """Keeps an exponential moving average of a module's parameters and buffers, on their devices.

    The first update copies them; buffers that are no floating-point numbers are always copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay
        self.num_updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves the average towards the module by 1 - decay; who calls it counts `num_updates`."""
        pairs = list(zip(_list_tensors(self.module), _list_tensors(module), strict=True))
        averaged = [pair for pair in pairs if self.num_updates and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (self.num_updates and pair[0].is_floating_point())]
        if averaged:
            own, new = map(list, zip(*averaged, strict=True))
            torch._foreach_lerp_(own, new, 1 - self.decay)
        if copied:
            own, new = map(list, zip(*copied, strict=True))
            torch._foreach_copy_(own, new)

    def state_dict(self) -> StateDict:
        """Returns the number of updates and the averaged tensors."""
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        return {"n_averaged": torch.tensor(self.num_updates), **tensors}

    def load_state_dict(self, state: StateDict) -> None:
        """Goes on where the average that gave `state` stood."""
        tensors = {name.removeprefix("module."): value for name, value in state.items() if name != "n_averaged"}
        self.module.load_state_dict(tensors)
        self.num_updates = int(state["n_averaged"])


def _list_tensors(module: nn.Module) -> list[torch.Tensor]:
    return list(itertools.chain(module.parameters(), module.buffers()))


@dataclass(kw_only=True)
class TrainState:
    """Holds the named modules, optimizers, schedules, averages, counters and the metric history of one trial."""

    modules: dict[str, nn.Module]
    """The bare modules: evaluated and stored."""
    prepared: dict[str, nn.Module]
    """The same modules as `prepare` returned them: called in training."""
    optimizers: dict[str, Optimizer]
    schedules: dict[str, Schedule] = field(default_factory=dict)
    averages: dict[str, MovingAverage] = field(default_factory=dict)
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
    optimized: list[str] = field(default_factory=list, init=False)
    """The modules that the step under way has optimized."""
    values: dict[str, torch.Tensor] = field(default_factory=dict, init=False)
    """The task's `step_values` on the device, while a step is recorded; else they are put there by each."""

    def end_step(self) -> None:
        """Counts a step and the averages that it moved, and sets the learning rates of the next one."""
        for name in self.optimized:
            if name in self.schedules:
                self.schedules[name].end_step()
            if name in self.averages:
                self.averages[name].num_updates += 1
        self.optimized.clear()
        self.step += 1

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
        for part in ("modules", "averages", "schedules"):
            for name, owner in getattr(self, part).items():
                owner.load_state_dict(state[part][name])
        for name, optimizer in self.optimizers.items():
            load_optimizer(optimizer, state["optimizers"][name])
        for name in COUNTERS:
            setattr(self, name, state["counters"][name])


COUNTERS = ("epoch", "step", "best_value", "best_epoch", "epochs_since_best", "cause", "history")


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
