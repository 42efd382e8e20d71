"""What a task is to the training loop; and how a configuration finds its task."""

import importlib
from typing import Any, Protocol

import torch
from torch import nn
from torchmetrics import MetricCollection

from raysweep.config import TrialConfig
from raysweep.data.batches import Batch, Worker
from raysweep.data.images import DataInfo
from raysweep.train.state import Prepare, TrainState


class Task(Protocol):
    """What is trained. The task owns its networks, losses, backward passes and optimizer steps."""

    metrics: MetricCollection
    """Validation metrics by their names without `val/`; states that merge, so that they are exact under
    any batch size and number of workers."""

    def init_state(self, worker: Worker, prepare: Prepare) -> TrainState:
        """Freshly built modules and optimizers; `prepare` wraps what is to be trained on several workers."""
        ...

    def load_modules(self) -> dict[str, nn.Module]:
        """The networks, on the CPU, to load stored weights into: nothing is downloaded."""
        ...

    def train_step(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """One step on a batch; returns means over the batch, such as `loss`, detached."""
        ...

    def end_epoch(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Called after each evaluation with all metrics of the epoch."""
        ...

    def eval_step(self, state: TrainState, batch: Batch) -> None:
        """Updates `metrics` with a batch, without gradients."""
        ...


def build_task(config: TrialConfig, info: DataInfo, num_workers: int = 1) -> Task:
    """The task that `config.task` names: the class TASK of raysweep.tasks.<kind>."""
    module: Any = importlib.import_module(f"raysweep.tasks.{config.task.kind}")
    task: Task = module.TASK(config, info, num_workers)
    return task
