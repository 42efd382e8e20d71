"""A task as somebody else would write it, in one file: a linear model that tells how bright an image is."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Adam, Optimizer

from raysweep import Batch, FinalRun, Metric, Sums, Task, TaskConfig, TrainState, Worker, iterate_evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class BrightnessConfig(TaskConfig):
    """Configures the optimizer of a linear model."""

    kind: ClassVar[str] = "brightness"
    task: ClassVar[str] = f"{__name__}:BrightnessTask"
    evaluation: ClassVar[str] = f"{__name__}:evaluate"
    learning_rate: float = 1e-3
    """Adam's; above 0."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Declares the squared error."""
        return tuple(Metric(f"{split}/loss", "minimize", "mean squared error", live=True) for split in ("train", "val"))


class BrightnessTask(Task):
    """Fits the mean of an image's pixels."""

    config: BrightnessConfig

    def load_modules(self) -> dict[str, nn.Module]:
        """Builds the model."""
        return {"model": nn.Sequential(nn.Flatten(), nn.Linear(self.data.channels * self.data.image_size**2, 1))}

    def build_optimizers(self, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
        """Builds an Adam."""
        return {"model": Adam(modules["model"].parameters(), self.config.learning_rate)}

    def compute_loss(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Computes the mean squared error."""
        guessed = self.forward(state.prepared["model"], batch.images).float().flatten()
        return {"loss": F.mse_loss(guessed, batch.images.mean(dim=(1, 2, 3)))}

    def eval_step(self, state: TrainState, batch: Batch) -> Sums:
        """Computes the summed squared error."""
        guessed = self.infer(state.modules["model"], batch.images).flatten()
        return {"loss": F.mse_loss(guessed, batch.images.mean(dim=(1, 2, 3)), reduction="sum")}


def evaluate(run: FinalRun) -> dict[str, Any]:
    """Computes the error on the test images."""
    state = TrainState(modules=run.best.modules, prepared=run.best.modules, optimizers={})
    batches = iterate_evaluation(run.test, run.best.config.data, batch_size=100, worker=Worker())
    error = run.best.task.evaluate(state, batches)["val/loss"]
    text = f"squared error {error:.4f}"
    (run.folder / "error.txt").write_text(text)
    lift = {"text": "not compared"}
    return {"num_images": len(run.test), "report": "error.txt", "headline": text, "lift": lift, "squared_error": error}
