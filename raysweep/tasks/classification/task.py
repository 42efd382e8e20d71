"""Image classification: cross entropy with label smoothing on any timm model or the Fashion CNN."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from raysweep.config import TrialConfig
from raysweep.data.batches import Batch
from raysweep.data.images import DataInfo, ImageSet
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.networks import Classifier, build_classifier, set_batch_norm_frozen
from raysweep.train.metrics import Sums, count_confusions, get_sum, score_confusions
from raysweep.train.optim import Schedule, build_groups, build_optimizer
from raysweep.train.state import TrainState
from raysweep.train.task import Task


class ClassificationTask(Task):
    """Trains a classifier."""

    config: ClassificationConfig
    is_capturable = True

    def __init__(self, config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> None:
        super().__init__(config, info, num_workers, folder)
        self.ema_decay = self.config.ema_decay
        self.gradient_clip_norm = self.config.gradient_clip_norm
        self.class_weights: torch.Tensor | None = None
        if self.config.class_weighting and folder is not None:
            labels = ImageSet(folder / "train").labels
            self.class_weights = weigh_classes(labels, self.num_classes, self.config.class_weighting)

    def load_modules(self) -> dict[str, nn.Module]:
        """Builds the classifier to load stored weights into: nothing is downloaded."""
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

    def init_modules(self) -> dict[str, nn.Module]:
        """Builds the classifier, with pretrained weights where they are asked for, and freezes what is not trained."""
        model = self._build_model(pretrained=self.config.pretrained)
        if self.config.freeze_batch_norm:
            set_batch_norm_frozen(model)
        if self.config.backbone_factor == 0:
            model.backbone.requires_grad_(False)
        return {"model": model}

    def build_optimizers(self, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
        """Builds an optimizer with a learning rate for the head and one for the backbone."""
        model, config = modules["model"], self.config
        assert isinstance(model, Classifier)
        groups = build_groups(
            model.backbone, model.head, learning_rate=config.learning_rate, backbone_factor=config.backbone_factor
        )
        optimizer = build_optimizer(
            config.optimizer, groups, weight_decay=config.weight_decay, momentum=config.momentum
        )
        return {"model": optimizer}

    def build_schedules(self, optimizers: dict[str, Optimizer]) -> dict[str, Schedule]:
        """Builds the schedule that is named."""
        return {"model": self.build_schedule(self.config.schedule, optimizers["model"], self.config.warmup_epochs)}

    def compute_loss(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Computes the mean smoothed, weighted cross entropy over the batch; of mixed images that of their shares."""
        model = state.prepared["model"]
        if self.config.freeze_batch_norm:
            set_batch_norm_frozen(model)
        logits = self.forward(model, batch.images).float()
        smoothing = self.config.label_smoothing
        if batch.mixing is None and self.class_weights is None:
            return {"loss": F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)}
        own = self._weigh(
            F.cross_entropy(logits, batch.labels, reduction="none", label_smoothing=smoothing), batch.labels
        )
        if batch.mixing is None:
            return {"loss": own.mean()}
        others = batch.mixing.labels
        mixed = self._weigh(F.cross_entropy(logits, others, reduction="none", label_smoothing=smoothing), others)
        return {"loss": torch.lerp(mixed, own, batch.mixing.shares).mean()}

    def _weigh(self, losses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighs the losses (B,) of images by their classes."""
        if self.class_weights is None:
            return losses
        self.class_weights = self.class_weights.to(labels.device)
        return losses * self.class_weights[labels]

    def eval_step(self, state: TrainState, batch: Batch) -> Sums:
        """Computes cross entropy without smoothing and confusions of a batch."""
        logits = self.infer(state.best_modules()["model"], batch.images)
        return {
            "loss": F.cross_entropy(logits, batch.labels, reduction="none").sum(),
            "confusions": count_confusions(batch.labels, logits.argmax(dim=1), self.num_classes),
        }

    def compute_metrics(self, sums: Sums) -> dict[str, torch.Tensor | float]:
        """Computes the mean loss, accuracies and F1."""
        return {**super().compute_metrics(sums), **score_confusions(get_sum(sums, "confusions"))}


def weigh_classes(labels: npt.NDArray[np.int64], num_classes: int, strength: float) -> torch.Tensor:
    """Computes the weight of each class, (num_classes,) float32: its share to the power of -strength.

    Scaled so that the mean over the images is 1, and the learning rate means the same at every strength.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.maximum(counts, 1.0) ** -strength
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()
