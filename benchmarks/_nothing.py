"""The study of soak.py: a task whose trials do next to nothing, a step of a model of one weight a pixel."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from optuna.distributions import FloatDistribution
from torch import nn
from torch.optim import SGD, Optimizer

from raysweep import (
    Batch,
    Budget,
    DataConfig,
    FinalRun,
    Metric,
    Objective,
    Study,
    Sums,
    Task,
    TaskConfig,
    TrainingConfig,
    TrainState,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NothingConfig(TaskConfig):
    """Two hyperparameters, of which one counts."""

    kind: ClassVar[str] = "nothing"
    task: ClassVar[str] = f"{__file__}:NothingTask"
    evaluation: ClassVar[str] = f"{__file__}:evaluate"
    learning_rate: float = 1e-3
    momentum: float = 0.0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(Metric(f"{split}/loss", "minimize", "mean squared error") for split in ("train", "val"))


class NothingTask(Task):
    """Fits the mean of an image's pixels."""

    config: NothingConfig

    def load_modules(self) -> dict[str, nn.Module]:
        return {"model": nn.Sequential(nn.Flatten(), nn.Linear(self.data.channels * self.data.image_size**2, 1))}

    def build_optimizers(self, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
        return {"model": SGD(modules["model"].parameters(), self.config.learning_rate, self.config.momentum)}

    def compute_loss(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        guessed = self.forward(state.prepared["model"], batch.images).float().flatten()
        return {"loss": F.mse_loss(guessed, batch.images.mean(dim=(1, 2, 3)))}

    def eval_step(self, state: TrainState, batch: Batch) -> Sums:
        guessed = self.infer(state.modules["model"], batch.images).flatten()
        return {"loss": F.mse_loss(guessed, batch.images.mean(dim=(1, 2, 3)), reduction="sum")}


def evaluate(run: FinalRun) -> dict[str, Any]:
    """Reports nothing."""
    (run.folder / "nothing.txt").write_text("nothing\n")
    return {
        "num_images": len(run.test),
        "report": "nothing.txt",
        "headline": "nothing",
        "lift": {"text": "not compared"},
    }


STUDY = Study(
    name="nothing",
    task=NothingConfig(),
    data=DataConfig(image_size=8, channels=1, normalization="unit"),
    training=TrainingConfig(epochs=1, batch_size=1024, precision="fp32"),
    space={
        "task.learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "task.momentum": FloatDistribution(0.0, 0.9),
    },
    objective=Objective(metric="val/loss", direction="minimize"),
    budget=Budget(trials=2000),
)
