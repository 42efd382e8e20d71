"""Image classification: cross entropy with label smoothing on any timm model or the Fashion CNN."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from raysweep.config import TrialConfig
from raysweep.data.batches import Batch, Worker, count_steps
from raysweep.data.images import DataInfo
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.networks import Classifier, build_classifier, set_batch_norm_frozen
from raysweep.train.optim import Schedule, build_groups, build_optimizer, clip_gradients
from raysweep.train.precision import arrange, autocast
from raysweep.train.state import Prepare, TrainState, build_average


class ClassificationTask:
    """Trains a classifier; see raysweep.train.task.Task."""

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
