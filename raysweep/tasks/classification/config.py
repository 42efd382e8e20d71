"""The configuration of a classifier: network, loss, optimizer and schedule."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from raysweep.config import Metric, OptimizerName, ScheduleName, TaskConfig, require

FASHION_CNN = "fashion_cnn"
HeadName = Literal["linear", "report"]
METRICS = (
    Metric("train/loss", "minimize", "cross entropy in nats, of smoothed labels", live=True),
    Metric("val/loss", "minimize", "cross entropy in nats, of labels as they are", live=True),
    Metric("val/accuracy", "maximize", "share of images whose class is found, in 0..1"),
    Metric("val/mean_class_accuracy", "maximize", "mean over classes of that share, in 0..1"),
    Metric("val/macro_f1", "maximize", "mean over classes of precision's and recall's harmonic mean, in 0..1"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationConfig(TaskConfig):
    """Configures network, loss and optimizer of a classifier."""

    kind: ClassVar[str] = "classification"
    task: ClassVar[str] = "raysweep.tasks.classification.task:ClassificationTask"
    evaluation: ClassVar[str] = "raysweep.tasks.classification.evaluation:evaluate"
    graph: ClassVar[str | None] = "raysweep.tasks.classification.graph:build_graph"
    takes_mixed_labels: ClassVar[bool] = True
    advice_on_divergence: ClassVar[str] = "a lower task.learning_rate or a task.gradient_clip_norm may help"
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
    def metrics(self) -> tuple[Metric, ...]:
        """Declares losses, accuracies and F1."""
        return METRICS

    def check_available(self) -> None:
        """Fails in the driver on what would fail every trial.

        Raises:
            UsageError: an unknown model, or weights that cannot be had.
        """
        from raysweep.tasks.classification.timm_models import check_name  # here: it needs this module

        check_name(self.model)
        if self.pretrained:
            from raysweep.tasks.classification.networks import check_pretrained  # slow: imports torch and timm

            check_pretrained(self.model)
