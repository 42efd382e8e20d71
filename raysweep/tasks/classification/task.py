"""Image classification: cross entropy with label smoothing on any timm model or the Fashion CNN."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from raysweep.data.batches import Batch
from raysweep.data.images import DataInfo, ImageSet
from raysweep.errors import UsageError
from raysweep.registry import load_object
from raysweep.tasks.classification.config import CROSS_ENTROPY, WEIGHTS_FOLDER, ClassificationConfig
from raysweep.tasks.classification.networks import (
    Classifier,
    build_classifier,
    load_backbone,
    set_batch_norm_frozen,
)
from raysweep.tasks.classification.weights import load_pretrained
from raysweep.train.metrics import Sums, count_confusions, get_sum, score_confusions
from raysweep.train.optim import Schedule, build_groups, build_optimizer
from raysweep.train.state import TrainState
from raysweep.train.task import Task
from raysweep.trial_config import TrialConfig

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps logits (B, num_classes) and labels (B,) to a value of each image, (B,)."""


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

        own = self.config
        self.loss: Loss | None = None if own.loss == CROSS_ENTROPY else load_object(own.loss)
        self.metric: Loss | None = None if own.metric is None else load_object(own.metric)
        self.augment: Callable[[torch.Tensor], torch.Tensor] | None = (
            None if own.augmentation is None else load_object(own.augmentation)
        )

    def load_modules(self) -> dict[str, nn.Module]:
        """Builds the classifier to load stored weights into: nothing is downloaded."""
        return {"model": self._build_model()}

    def _build_model(self) -> Classifier:
        return build_classifier(
            self.config.model,
            model_args=self.config.model_args,
            head=self.config.head,
            dropout=self.config.dropout,
            batch_norm=self.config.batch_norm,
            num_classes=self.num_classes,
            channels=self.data.channels,
            image_size=self.data.image_size,
        )

    def init_modules(self) -> dict[str, nn.Module]:
        """Builds the classifier, with pretrained weights where they are asked for, and freezes what is not trained."""
        model = self._build_model()
        if self.config.pretrained:
            load_backbone(
                model,
                load_pretrained(self.config, self.folder and self.folder / WEIGHTS_FOLDER),
                is_timm=self.config.pretrained is True,
                channels=self.data.channels,
                origin=self.config.weights_name,
            )
        if self.config.freeze_batch_norm:
            set_batch_norm_frozen(model)
        if self.config.backbone_factor == 0:
            for parameter in model.split_parameters()[0]:
                parameter.requires_grad_(False)
        for stage in model.list_stages()[: self.config.frozen_stages] if self.config.frozen_stages else []:
            for parameter in stage:
                parameter.requires_grad_(False)
        return {"model": model}

    def infer(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Computes logits (B, num_classes) of normalised images (B, C, H, W), as after training."""
        logits = super().infer(module, images)
        return (logits + super().infer(module, images.flip(-1))) / 2 if self.config.test_time_flip else logits

    def build_optimizers(self, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
        """Builds an optimizer with a learning rate for the head and one for the backbone, or for each of its stages."""
        model, config = modules["model"], self.config
        assert isinstance(model, Classifier)
        backbone, head = model.split_parameters()
        stages = [backbone] if config.layer_decay == 1 else model.list_stages()
        groups = build_groups(
            stages,
            head,
            learning_rate=config.learning_rate,
            backbone_factor=config.backbone_factor,
            layer_decay=config.layer_decay,
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
        images = batch.images if self.augment is None else self.augment(batch.images)
        logits = self.forward(model, images).float()
        if batch.mixing is None and self.loss is None and self.class_weights is None:
            return {"loss": F.cross_entropy(logits, batch.labels, label_smoothing=self.config.label_smoothing)}
        own = self._compute_losses(logits, batch.labels)
        if batch.mixing is None:
            return {"loss": own.mean()}
        others = self._compute_losses(logits, batch.mixing.labels)
        return {"loss": torch.lerp(others, own, batch.mixing.shares).mean()}

    def _compute_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Computes the loss of each image, (B,), weighed by its class."""
        if self.loss is not None:
            losses = self.loss(logits, labels)
        else:
            losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.config.label_smoothing)
        if self.class_weights is None:
            return losses
        self.class_weights = self.class_weights.to(labels.device)
        return losses * self.class_weights[labels]

    @torch.no_grad()
    def check_modules(self, modules: dict[str, nn.Module]) -> None:
        """Calls a network, loss, metric and augmentation of one's own once, on images of zeros.

        Raises:
            UsageError: one of them fails, or returns another shape than it has to.
        """
        config, size = self.config, self.data.image_size
        images = torch.zeros(2, self.data.channels, size, size)
        labels = torch.zeros(2, dtype=torch.int64)
        logits = torch.zeros(2, self.num_classes)
        if config.has_own_network:
            _check_network(config.model, modules["model"], images, logits.shape)
        for name, function in (("loss", self.loss), ("metric", self.metric)):
            if function is not None:
                _check_shape(f"task.{name}", getattr(config, name), function, (logits, labels), labels.shape)
        if self.augment is not None:
            _check_shape("task.augmentation", config.augmentation, self.augment, (images,), images.shape)

    def eval_step(self, state: TrainState, batch: Batch) -> Sums:
        """Computes cross entropy without smoothing and confusions of a batch."""
        logits = self.infer(state.best_modules()["model"], batch.images)
        own = {} if self.metric is None else {self.config.metric_name: self.metric(logits, batch.labels).float().sum()}
        return {
            "loss": F.cross_entropy(logits, batch.labels, reduction="none").sum(),
            "confusions": count_confusions(batch.labels, logits.argmax(dim=1), self.num_classes),
            **own,
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


def _check_network(name: str, network: nn.Module, images: torch.Tensor, shape: torch.Size) -> None:
    assert isinstance(network, Classifier)
    given: list[torch.Tensor] = []
    hook = network.last_linear.register_forward_hook(lambda layer, taken, output: given.append(output))
    try:
        logits = _check_shape("task.model", name, network.eval(), (images,), shape)
    finally:
        hook.remove()
    if len(given) != 1 or not torch.equal(given[0], logits):
        raise UsageError(
            f"task.model={name} must return what its last nn.Linear with {shape[1]} outputs gives, once; declare "
            "others, such as of auxiliary heads, before it"
        )


def _check_shape(
    field: str, name: str | None, function: Callable[..., Any], arguments: tuple[torch.Tensor, ...], shape: torch.Size
) -> torch.Tensor:
    shapes = " and ".join(str(tuple(argument.shape)) for argument in arguments)
    try:
        result = function(*arguments)
    except Exception as error:  # whatever somebody's own code raises is shown as that code's error
        raise UsageError(f"{field}={name} fails for {shapes}: {type(error).__name__}: {error}") from error
    got = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
    if got != shape:
        raise UsageError(f"{field}={name} must return {tuple(shape)} for {shapes}, got {got}")
    assert isinstance(result, torch.Tensor)
    return result
