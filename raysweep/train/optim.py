"""Optimizers and learning-rate schedules by name, from torch.optim."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from raysweep.config import OptimizerName, ScheduleName

StateDict = dict[str, Any]
"""State as PyTorch has it: nested dicts, lists, numbers and tensors, named as their owner likes."""
PLATEAU_FACTOR = 0.5
PLATEAU_PATIENCE = 2
FUSED = ("cuda",)
"""Devices on which optimizers are fused. On CPUs too that takes a seventh of the time, but rounds otherwise."""
IMPLEMENTATION = ("foreach", "fused", "capturable")
"""Values of an optimizer's groups that say how it computes, not what."""


def build_optimizer(
    name: OptimizerName, groups: Iterable[dict[str, Any]], *, weight_decay: float, momentum: float
) -> Optimizer:
    """Builds Adam (L2 as weight decay), AdamW (decoupled) or SGD with Nesterov momentum; each group has its `lr`.

    `momentum` is SGD's momentum and Adam's beta1. All weights are changed in one operation where torch has it.
    """
    groups = [{**group, "params": list(group["params"])} for group in groups]
    fused = all(weight.device.type in FUSED for group in groups for weight in group["params"]) or None
    if name == "sgd":
        return SGD(groups, weight_decay=weight_decay, momentum=momentum, nesterov=momentum > 0, fused=fused)
    kind = Adam if name == "adam" else AdamW
    return kind(groups, weight_decay=weight_decay, betas=(momentum, 0.999), fused=fused)


def load_optimizer(optimizer: Optimizer, saved: StateDict) -> None:
    """Takes up the state of an optimizer, which may have been on another device: how it is computed stays as it is.

    What belongs to a weight is laid out in memory as the weight is: fused optimizers go through both alike.
    """
    own = [{name: group[name] for name in IMPLEMENTATION if name in group} for group in optimizer.param_groups]
    groups = [group | kept for group, kept in zip(saved["param_groups"], own, strict=True)]
    optimizer.load_state_dict({**saved, "param_groups": groups})
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                values[name] = torch.empty_like(weight).copy_(value)


class Schedule:
    """Changes the learning rates over a trial's own length: plateau after an epoch, others after an optimizer step."""

    def __init__(
        self,
        name: ScheduleName,
        optimizer: Optimizer,
        *,
        num_epochs: int,
        steps_per_epoch: int,
        warmup_epochs: float,
    ) -> None:
        total = max(1, num_epochs * steps_per_epoch)
        warmup = min(round(warmup_epochs * steps_per_epoch), total - 1)
        self.plateau: ReduceLROnPlateau | None = None
        self.by_step: LRScheduler | None = None
        if name == "one_cycle":
            rise = max(warmup, 1)
            self.by_step = OneCycleLR(
                optimizer,
                max_lr=[group["lr"] for group in optimizer.param_groups],
                total_steps=total + 1,
                pct_start=(rise + 1) / (total + 1),  # torch's rise ends at pct_start * total_steps - 1
                cycle_momentum=False,
            )
            return
        if name == "plateau":
            self.plateau = ReduceLROnPlateau(optimizer, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE)
        main = CosineAnnealingLR(optimizer, T_max=total - warmup) if name == "cosine" else None
        ramp = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup) if warmup else None
        if main and ramp:
            self.by_step = SequentialLR(optimizer, [ramp, main], milestones=[warmup])
        else:
            self.by_step = main or ramp

    def end_step(self) -> None:
        """Sets the learning rates of the step that follows; to be called after each optimizer step."""
        if self.by_step is not None:
            self.by_step.step()

    def end_epoch(self, metrics: Mapping[str, float]) -> None:
        """Tells plateau the `val/loss` of an epoch; to be called after each evaluation."""
        if self.plateau is not None:
            self.plateau.step(metrics["val/loss"])

    def state_dict(self) -> StateDict:
        """Returns the plain values from which `load_state_dict` goes on."""
        return {
            name: _plain_state(schedule)
            for name, schedule in (("plateau", self.plateau), ("by_step", self.by_step))
            if schedule is not None
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Goes on where the schedule that gave `state` stood."""
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
        if isinstance(self.by_step, SequentialLR):
            for schedule, inner in zip(self.by_step._schedulers, state["by_step"]["inner"], strict=True):
                schedule.__dict__.update(inner)
            self.by_step.last_epoch = state["by_step"]["last_epoch"]
        elif self.by_step is not None:
            self.by_step.__dict__.update(state["by_step"])


def _plain_state(schedule: LRScheduler) -> StateDict:
    """Returns the counters of a torch schedule without its optimizer, closures and settings that are built anew."""
    if isinstance(schedule, SequentialLR):
        inner = [_plain_state(part) for part in schedule._schedulers]
        return {"last_epoch": schedule.last_epoch, "inner": inner}
    if isinstance(schedule, ReduceLROnPlateau):
        return dict(schedule.state_dict())
    return {
        key: value
        for key, value in schedule.__dict__.items()
        if key in ("last_epoch", "_step_count", "_last_lr", "base_lrs")
    }


def build_groups(
    stages: Sequence[Sequence[nn.Parameter]],
    head: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    backbone_factor: float,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Builds parameter groups: the head at `learning_rate`, the backbone's last stage at `backbone_factor` times it.

    Each stage before has `layer_decay` times the learning rate of the next one.
    """
    rates = [learning_rate * backbone_factor * layer_decay**depth for depth in range(len(stages))]
    groups = [
        {"params": [weight for weight in weights if weight.requires_grad], "lr": rate}
        for weights, rate in [*zip(stages, reversed(rates), strict=True), (head, learning_rate)]
    ]
    return [group for group in groups if group["params"]]


def clip_gradients(parameters: Iterable[torch.Tensor], max_norm: float | None) -> None:
    """Scales gradients down to a total L2 norm of `max_norm`; none leaves them."""
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)


def average_gradients(module: nn.Module, num_workers: int) -> None:
    """Replaces the gradients of a module by their means over all workers."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= num_workers
    means = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
