"""Image classification: cross entropy with label smoothing on any timm model or the Fashion CNN."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from raysweep.config import TrialConfig, require
from raysweep.data.batches import Batch, Worker, count_steps
from raysweep.data.images import DataInfo, PreparedData
from raysweep.models.classifier import (
    FASHION_CNN,
    Classifier,
    HeadName,
    build_classifier,
    check_model,
    set_batch_norm_frozen,
)
from raysweep.train.optim import (
    OptimizerName,
    Schedule,
    ScheduleName,
    build_groups,
    build_optimizer,
    clip_gradients,
)
from raysweep.train.precision import arrange, autocast
from raysweep.train.state import Prepare, TrainState, build_average


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationConfig:
    """Network, loss and optimizer of a classifier."""

    kind: ClassVar[str] = "classification"
    reported_metrics: ClassVar[frozenset[str]] = frozenset(
        {"val/loss", "val/accuracy", "val/mean_class_accuracy", "val/macro_f1"}
    )

    model: str = "resnet18"
    """`fashion_cnn` or the name of a timm model."""
    pretrained: bool = False
    """Start from timm's pretrained weights."""
    head: HeadName = "linear"
    """linear: one layer on the features; report: the car report's 1000-16-64-classes."""
    dropout: float = 0.0
    """Before the head (fashion_cnn: in the dense layer, half of it in the convolutions); 0 to 0.95."""
    batch_norm: bool = False
    """Batch normalisation in fashion_cnn; timm models have what they have."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes; 0 to 0.9."""
    optimizer: OptimizerName = "adam"
    """adam (L2), adamw (decoupled weight decay) or sgd (Nesterov)."""
    learning_rate: float = 1e-3
    """Of the head; above 0."""
    backbone_factor: float = 1.0
    """The backbone's learning rate as a multiple of the head's; 0 to 1, 0 trains the head only."""
    momentum: float = 0.9
    """SGD's momentum, Adam's beta1; 0 to 0.999."""
    weight_decay: float = 0.0
    """0 or more."""
    schedule: ScheduleName = "none"
    """Of the learning rate over the trial's own epochs."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up (one_cycle: of its rise, one step at least); 0 or more."""
    gradient_clip_norm: float | None = None
    """Largest L2 norm of the gradient; none: no limit."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, per step, which is then evaluated; none: no average."""
    freeze_batch_norm: bool = False
    """Keep the batch-norm layers of pretrained weights as they are."""

    def __post_init__(self) -> None:
        require(bool(self.model), "task.model must be fashion_cnn or a timm model", self.model)
        require(
            not self.batch_norm or self.model == FASHION_CNN,
            "task.batch_norm must be false where task.model is a timm model, which has its own layers "
            "(--set task.batch_norm=false)",
            self.batch_norm,
        )
        require(0 <= self.dropout <= 0.95, "task.dropout must be in 0..0.95", self.dropout)
        require(0 <= self.label_smoothing <= 0.9, "task.label_smoothing must be in 0..0.9", self.label_smoothing)
        require(self.learning_rate > 0, "task.learning_rate must be above 0", self.learning_rate)
        require(0 <= self.backbone_factor <= 1, "task.backbone_factor must be in 0..1", self.backbone_factor)
        require(0 <= self.momentum <= 0.999, "task.momentum must be in 0..0.999", self.momentum)
        require(self.weight_decay >= 0, "task.weight_decay must be 0 or more", self.weight_decay)
        require(self.warmup_epochs >= 0, "task.warmup_epochs must be 0 or more", self.warmup_epochs)
        require(
            self.gradient_clip_norm is None or self.gradient_clip_norm > 0,
            "task.gradient_clip_norm must be above 0 or none",
            self.gradient_clip_norm,
        )
        require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            "task.ema_decay must be in 0..1 or none",
            self.ema_decay,
        )

    @property
    def pin_group(self) -> None:
        """None: the final evaluation wants the best trial and the baseline only."""
        return None

    def check_available(self) -> None:
        """Fails in the driver on what would fail every trial.

        Raises:
            UsageError: an unknown model, or weights that cannot be had.
        """
        check_model(self.model, pretrained=self.pretrained)

    def prepare(self, data: PreparedData) -> None:
        """Nothing: trials share their images only."""


class ClassificationTask:
    """Trains a classifier; see raysweep.tasks.base.Task."""

    main_module = "model"
    num_eval_images = None

    def __init__(self, config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> None:
        assert isinstance(config.task, ClassificationConfig)
        self.config = config.task
        self.data = config.data
        self.training = config.training
        self.num_classes = len(info.classes)
        self.steps_per_epoch = count_steps(info.num_train, config.training.batch_size, num_workers)
        self.metrics = MetricCollection(
            {
                "loss": MeanMetric(nan_strategy="disable"),  # a NaN has to show
                "accuracy": MulticlassAccuracy(self.num_classes, average="micro"),
                "mean_class_accuracy": MulticlassAccuracy(self.num_classes, average="macro"),
                "macro_f1": MulticlassF1Score(self.num_classes, average="macro"),
            },
            compute_groups=[["loss"], ["accuracy"], ["mean_class_accuracy", "macro_f1"]],
        )

    def load_modules(self) -> dict[str, nn.Module]:
        """The classifier to load stored weights into: nothing is downloaded."""
        return {"model": self._build_model(pretrained=False)}

    def _build_model(self, *, pretrained: bool) -> Classifier:
        return build_classifier(
            self.config.model,
            pretrained=pretrained,
            head=self.config.head,
            dropout=self.config.dropout,
            batch_norm=self.config.batch_norm,
            num_classes=self.num_classes,
            channels=self.data.channels,
            image_size=self.data.image_size,
        )

    def init_state(self, worker: Worker, prepare: Prepare) -> TrainState:
        """Model, optimizer, schedule and, where asked for, the moving average, on the worker's device."""
        model = self._build_model(pretrained=self.config.pretrained).to(worker.device)
        if self.training.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if self.config.freeze_batch_norm:
            set_batch_norm_frozen(model)
        if self.config.backbone_factor == 0:
            model.backbone.requires_grad_(False)
        groups = build_groups(
            model.backbone,
            model.head,
            learning_rate=self.config.learning_rate,
            backbone_factor=self.config.backbone_factor,
        )
        optimizer = build_optimizer(
            self.config.optimizer,
            groups,
            weight_decay=self.config.weight_decay,
            momentum=self.config.momentum,
        )
        schedule = Schedule(
            self.config.schedule,
            optimizer,
            num_epochs=self.training.epochs,
            steps_per_epoch=self.steps_per_epoch,
            warmup_epochs=self.config.warmup_epochs,
        )
        averages = {"model": build_average(model, self.config.ema_decay)} if self.config.ema_decay else {}
        return TrainState(
            modules={"model": model},
            prepared={"model": prepare(model)},
            optimizers={"model": optimizer},
            schedules={"model": schedule},
            averages=averages,
        )

    def train_step(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """One optimizer step; `loss` is the mean smoothed cross entropy over the batch."""
        model, optimizer = state.prepared["model"], state.optimizers["model"]
        model.train()
        if self.config.freeze_batch_norm:
            set_batch_norm_frozen(model)
        with autocast(self.training.precision, batch.images.device):
            logits = model(arrange(batch.images, self.training.channels_last))
        loss = F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.config.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        (loss * batch.weight if batch.weight != 1.0 else loss).backward()  # type: ignore[no-untyped-call]
        clip_gradients(model.parameters(), self.config.gradient_clip_norm)
        optimizer.step()
        schedule = state.schedules["model"]
        assert isinstance(schedule, Schedule)
        schedule.end_step()
        if "model" in state.averages:
            state.averages["model"].update_parameters(state.modules["model"])
        return {"loss": loss.detach()}

    def end_epoch(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Tells the plateau schedule the validation loss."""
        schedule = state.schedules["model"]
        assert isinstance(schedule, Schedule)
        schedule.end_epoch(metrics["val/loss"])

    def eval_step(self, state: TrainState, batch: Batch) -> None:
        """Cross entropy without smoothing, accuracies and F1 of a batch."""
        logits = self.predict(state.best_modules()["model"], batch.images)
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        self.metrics["loss"].update(losses)
        for name in ("accuracy", "mean_class_accuracy", "macro_f1"):
            self.metrics[name].update(logits, batch.labels)

    def use(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes)."""
        return self.predict(module, images)

    def sample(self, state: TrainState) -> None:
        """Nothing: a classifier makes no images."""

    @torch.inference_mode()
    def predict(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) float32 of normalised images (B, C, H, W), in evaluation mode."""
        model.eval()
        with autocast(self.training.precision, images.device):
            logits: torch.Tensor = model(arrange(images, self.training.channels_last)).float()
        return logits


CONFIG = ClassificationConfig
TASK = ClassificationTask
