"""What a task is to the training loop; and how a configuration finds its task."""

from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torchmetrics import MetricCollection

from raysweep.config import TrialConfig
from raysweep.data.batches import Batch, Worker
from raysweep.data.images import DataInfo
from raysweep.registry import load_object
from raysweep.train.state import Prepare, TrainState


class Task(Protocol):
    """What is trained. The task owns its networks, losses, backward passes and optimizer steps."""

    metrics: MetricCollection
    """Validation metrics by their names without `val/`; states that merge, so that they are exact under
    any batch size and number of workers."""
    main_module: ClassVar[str]
    """The module that is used after training: its cost is the model's."""
    num_eval_images: int | None
    """Validation images that are evaluated after each epoch, at most so many, evenly spaced; none: all."""

    def init_state(self, worker: Worker, prepare: Prepare) -> TrainState:
        """Freshly built modules and optimizers; `prepare` wraps what is to be trained on several workers."""
        ...

    def load_modules(self) -> dict[str, nn.Module]:
        """The networks, on the CPU, to load stored weights into: nothing is downloaded."""
        ...

    def train_step(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """One step on a batch; returns means over the batch, such as `loss`, detached."""
        ...

    def end_epoch(self, state: TrainState, metrics: dict[str, float]) -> str | None:
        """Called after each evaluation with all metrics of the epoch; a cause ends the trial here."""
        ...

    def eval_step(self, state: TrainState, batch: Batch) -> None:
        """Updates `metrics` with a batch, without gradients."""
        ...

    def use(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """What the main module is trained for, as after training, of normalised images (B, C, H, W)."""
        ...

    def sample(self, state: TrainState) -> npt.NDArray[np.uint8] | None:
        """Images (N, H, W, C) that show how far training is, N a square number; none: there is nothing to show."""
        ...


def draw_fixed_noise(indices: npt.NDArray[np.int64], size: int) -> torch.Tensor:
    """Standard normal noise (B, size) float32 that depends on the positions (B,) of images alone.

    So an evaluation is the same at every epoch, under any batch size and any number of workers.
    """
    rows = [np.random.default_rng([0, int(index)]).standard_normal(size) for index in indices]
    return torch.from_numpy(np.stack(rows)).float()


def build_task(config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> Task:
    """The task that `config.task` names.

    `folder` has the decoded images and what `TaskConfig.prepare` made beside them; only training needs it.
    """
    task: Task = load_object(config.task.task)(config, info, num_workers, folder)
    return task
