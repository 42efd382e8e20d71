"""The base of tasks: what the training loop asks of one, and what all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer

from raysweep.config import ScheduleName
from raysweep.data.batches import Batch, Worker, count_steps
from raysweep.data.images import DataInfo
from raysweep.registry import load_object
from raysweep.task_config import TaskConfig
from raysweep.train.accumulation import accumulate
from raysweep.train.metrics import Sums, add_up, gather_sums, get_mean, read_values
from raysweep.train.optim import Schedule, average_gradients, clip_gradients
from raysweep.train.precision import arrange, autocast
from raysweep.train.state import MovingAverage, Prepare, TrainState
from raysweep.trial_config import TrialConfig


class Task(ABC):
    """Trains and evaluates networks: a task has its networks, optimizers, losses and metrics.

    One with a single network and a single loss writes `load_modules`, `build_optimizers`, `compute_loss` and
    `eval_step`; another one overrides `train_step`. Its configuration, a TaskConfig, declares its metrics.
    """

    config: TaskConfig
    """The task's own part of the trial's configuration; a subclass narrows its type."""
    main_module: ClassVar[str] = "model"
    """The module that is used after training: its cost is the model's."""
    is_wrapped: ClassVar[bool] = True
    """Whether modules are wrapped for training on several workers (DDP); else `optimize` averages their gradients."""
    num_eval_images: int | None = None
    """Validation images that are evaluated after each epoch, at most so many, evenly spaced; none: all."""
    ema_decay: float | None = None
    """Decay, per step, of the moving average of the main module, which is then evaluated; none: no average."""
    gradient_clip_norm: float | None = None
    """Largest L2 norm of the gradient; none: no limit."""
    num_parts: int = 1
    """In how many parts `train_step` shows a batch to the networks, whose gradients it adds up: see accumulation."""
    is_capturable: bool = False
    """Whether a training step never waits for the device, and takes all that changes from `step_values` and
    `step_form`: only then may it be recorded as a CUDA graph."""

    def __init__(self, config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> None:
        """Keeps the configuration; `folder` has the decoded images and what `TaskConfig.prepare` made beside them."""
        self.config = config.task
        self.data = config.data
        self.training = config.training
        self.num_classes = len(info.classes)
        self.num_workers = num_workers
        self.folder = folder
        self.steps_per_epoch = count_steps(info.num_train, config.training.batch_size, num_workers)
        self.is_capturable = self.can_record(self.config)

    @classmethod
    def can_record(cls, config: TaskConfig) -> bool:
        """Tells whether steps may be recorded as CUDA graphs: never with code of one's own, whose draws are not seen.

        What it draws on the CPU would be the same in each step.
        """
        return cls.is_capturable and not config.code_references

    @abstractmethod
    def load_modules(self) -> dict[str, nn.Module]:
        """Builds the networks, on the CPU, to load stored weights into: nothing is downloaded."""

    def init_modules(self) -> dict[str, nn.Module]:
        """Builds the networks, on the CPU, as training starts from them; those of `load_modules` unless overridden."""
        return self.load_modules()

    def check_modules(self, modules: dict[str, nn.Module]) -> None:  # noqa: B027 - nothing to check by default
        """Fails in the driver, with a UsageError, on networks that could not be trained; passes unless overridden."""

    @abstractmethod
    def build_optimizers(self, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
        """Builds the optimizer of each module that is trained, by the module's name."""

    def build_schedules(self, optimizers: dict[str, Optimizer]) -> dict[str, Schedule]:
        """Builds learning-rate schedules by the names of their modules; none unless overridden."""
        return {}

    def build_schedule(self, name: ScheduleName, optimizer: Optimizer, warmup_epochs: float = 0.0) -> Schedule:
        """Builds a schedule over the trial's own length.

        Raises:
            ValueError: `plateau` in a task without a validation loss.
        """
        if name == "plateau" and "val/loss" not in self.config.reported_metrics:
            raise ValueError(f"task.schedule=plateau needs the metric val/loss, which {self.config.kind} lacks")
        return Schedule(
            name,
            optimizer,
            num_epochs=self.training.epochs,
            steps_per_epoch=self.steps_per_epoch,
            warmup_epochs=warmup_epochs,
        )

    def init_state(self, worker: Worker, prepare: Prepare) -> TrainState:
        """Builds modules, optimizers, schedules and the average on the worker's device, ready for the first step."""
        modules = {name: module.to(worker.device) for name, module in self.init_modules().items()}
        if self.training.channels_last:
            modules = {name: module.to(memory_format=torch.channels_last) for name, module in modules.items()}
        optimizers = self.build_optimizers(modules)
        schedules = self.build_schedules(optimizers)
        main = self.main_module
        averages = {main: MovingAverage(modules[main], self.ema_decay)} if self.ema_decay else {}
        return TrainState(
            modules=modules,
            prepared={name: prepare(module) for name, module in modules.items()} if self.is_wrapped else modules,
            optimizers=optimizers,
            schedules=schedules,
            averages=averages,
        )

    def train_step(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Trains on a batch; returns means over it, such as `loss`, detached. The modules are in training mode."""
        if self.num_parts > 1:
            return accumulate(self, state, batch)
        means = self.compute_loss(state, batch)
        self.optimize(state, self.main_module, means["loss"], batch.weight)
        return {name: value.detach() for name, value in means.items()}

    def compute_loss(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Computes `loss`, the mean over the batch by `state.prepared`, and other means that are to be reported."""
        raise NotImplementedError(f"{type(self).__name__} must have compute_loss or train_step")

    def optimize(self, state: TrainState, name: str, loss: torch.Tensor, weight: float) -> None:
        """Takes a step down the gradient of `loss * weight`, averaged over workers; moves the average.

        The schedule follows when the whole training step is done.
        """
        state.optimizers[name].zero_grad(set_to_none=True)
        (loss * weight if weight != 1.0 else loss).backward()  # type: ignore[no-untyped-call]
        self.apply_gradients(state, name)

    def apply_gradients(self, state: TrainState, name: str) -> None:
        """Takes a step down the gradients that a module has, averaged over workers; moves the average."""
        module = state.modules[name]
        if self.num_workers > 1 and not self.is_wrapped:
            average_gradients(module, self.num_workers)
        clip_gradients(module.parameters(), self.gradient_clip_norm)
        state.optimizers[name].step()
        if name in state.averages:
            state.averages[name].update(module)
        state.optimized.append(name)

    def step_form(self, state: TrainState) -> Hashable:
        """Names the operations of the step that follows: steps of one form differ in values only."""
        return None

    def step_values(self, state: TrainState) -> dict[str, float]:
        """Computes the numbers in the step that follows that change from step to step, but for learning rates."""
        return {}

    def get_step_value(self, state: TrainState, name: str, device: torch.device) -> torch.Tensor:
        """Returns one of `step_values` on the device, without a wait."""
        value = state.values.get(name)
        return torch.full((), self.step_values(state)[name], device=device) if value is None else value

    def evaluate(self, state: TrainState, batches: Iterable[Batch]) -> dict[str, float]:
        """Computes the metrics, `val/NAME`, of all batches of all workers, without gradients."""
        sums = gather_sums(add_up(self.count(state, batch) for batch in batches), self.num_workers)
        return {f"val/{name}": value for name, value in read_values(self.compute_metrics(sums)).items()}

    @torch.inference_mode()
    def count(self, state: TrainState, batch: Batch) -> Sums:
        """Computes the sums of `eval_step` and `num_images` of a batch, without gradients."""
        return {"num_images": torch.tensor(len(batch.labels)), **self.eval_step(state, batch)}

    @abstractmethod
    def eval_step(self, state: TrainState, batch: Batch) -> Sums:
        """Computes sums over a batch: of a metric whose name it is, or of what `compute_metrics` needs."""

    def compute_metrics(self, sums: Sums) -> Mapping[str, torch.Tensor | float]:
        """Computes metrics, by their names without `val/`, from the sums over `num_images`; their means by default."""
        names = (name.removeprefix("val/") for name in sorted(self.config.reported_metrics))
        return {name: get_mean(sums, name) for name in names if name in sums}

    def end_epoch(self, state: TrainState, metrics: dict[str, float]) -> str | None:
        """Tells schedules the metrics of an epoch that has been evaluated; a cause ends the trial here."""
        for schedule in state.schedules.values():
            schedule.end_epoch(metrics)
        return self.find_failure([*(row for row in state.history if row["epoch"] < metrics["epoch"]), metrics])

    def find_failure(self, history: Sequence[Mapping[str, float]]) -> str | None:
        """Finds in the metrics of all epochs so far a cause to end the trial; none unless overridden."""
        return None

    def forward(self, module: nn.Module, images: torch.Tensor, *others: Any) -> Any:
        """Calls a module on images (B, C, H, W) in the trial's precision and memory layout."""
        with autocast(self.training.precision, images.device):
            return module(arrange(images, self.training.channels_last), *others)

    @torch.inference_mode()
    def infer(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Does what the main module is trained for, as after training, with normalised images (B, C, H, W)."""
        output: torch.Tensor = self.forward(module.eval(), images)
        return output.float()

    def sample(self, state: TrainState) -> npt.NDArray[np.uint8] | None:
        """Makes images (N, H, W, C) that show how far training is, N a square number; none unless overridden."""
        return None


def draw_fixed_noise(indices: npt.NDArray[np.int64], size: int) -> torch.Tensor:
    """Draws standard normal noise (B, size) float32 that depends on the positions (B,) of images alone.

    So an evaluation is the same at every epoch, under any batch size and any number of workers.
    """
    rows = [np.random.default_rng([0, int(index)]).standard_normal(size) for index in indices]
    return torch.from_numpy(np.stack(rows)).float()


def build_task(config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> Task:
    """Builds the task that `config.task` names.

    `folder` has the decoded images and what `TaskConfig.prepare` made beside them; only training needs it.
    """
    task: Task = load_object(config.task.task)(config, info, num_workers, folder)
    return task
