"""The configuration of a classifier: network, loss, optimizer and schedule."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from raysweep import own_code
from raysweep.config import OptimizerName, ScheduleName, require
from raysweep.errors import UsageError
from raysweep.paths import resolve_path
from raysweep.task_config import Metric, TaskConfig

if TYPE_CHECKING:
    from raysweep.data.images import PreparedData

FASHION_CNN = "fashion_cnn"
CROSS_ENTROPY = "cross_entropy"
HUB = "hf-hub:"
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
"""What weights are called in a repository or a folder, the one that is looked for first first."""
WEIGHTS_FOLDER = "weights"
"""In the cache that all nodes share, and linked to beside the decoded images."""
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
    test_scores: ClassVar[str | None] = "raysweep.tasks.classification.test_scores:load_test_scores"
    needs_classes: ClassVar[bool] = True
    graph: ClassVar[str | None] = "raysweep.tasks.classification.graph:build_graph"
    report_sections: ClassVar[str | None] = "raysweep.tasks.classification.sections:build_sections"
    code_fields: ClassVar[tuple[str, ...]] = ("model", "loss", "metric", "augmentation")
    input_fields: ClassVar[tuple[str, ...]] = (*code_fields, "pretrained")
    takes_mixed_labels: ClassVar[bool] = True
    advice_on_divergence: ClassVar[str] = "a lower task.learning_rate or a task.gradient_clip_norm may help"
    model: str = "resnet18"
    """`fashion_cnn`, the name of a timm model, or a network of your own: path/to/file.py:NAME or package.module:NAME.
    That is called with num_classes, in_channels and model_args, and maps images (B, C, H, W) to logits (B, num_classes)
    by an nn.Linear at its end."""
    model_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further arguments of a timm model or of a network of your own; of fashion_cnn: width, the channels of its first
    convolution (32), and residual, whether residual blocks follow the others (false). task.model_args.NAME is a field,
    too."""
    pretrained: Annotated[bool | str, Field(union_mode="left_to_right")] = False
    """Weights to start from: true, timm's own; PATH, a safetensors or torch file, also best/ of a run;
    hf-hub:OWNER/NAME, a repository of the Hugging Face hub; false: none."""
    weights: Mapping[str, str] = field(default_factory=dict, hash=False)
    """SHA-256 of the weights to start from, by network and origin; a search fills it in, and a run keeps to it."""
    code: Mapping[str, str] = field(default_factory=dict, hash=False)
    """SHA-256 of the files and modules of code of your own; a search fills it in, and a run keeps to it."""
    head: HeadName = "linear"
    """linear: one layer on the features; report: the car report's 1000-16-64-classes; networks of your own: linear."""
    dropout: float = 0.0
    """Before the head (fashion_cnn: in the dense layer, half of it in the convolutions); 0 to 0.95; networks of your
    own: 0, they have theirs in model_args."""
    batch_norm: bool = False
    """Batch normalisation in fashion_cnn; timm models have what they have."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes; 0 to 0.9."""
    class_weighting: float = 0.0
    """How much more an image of a rare class counts in training; 0 to 1, 0: all images alike, 1: all classes alike."""
    loss: str = CROSS_ENTROPY
    """`cross_entropy`, or a loss of your own for training: called with logits (B, num_classes) float32 and labels (B,)
    int64, it returns the loss of each image, (B,)."""
    metric: str | None = None
    """A metric of your own: called as a loss is, it returns a value of each validation image, (B,); their mean is
    `val/NAME`. None: none."""
    augmentation: str | None = None
    """An augmentation of your own: called with normalised training images (B, C, H, W) float32 on their device, after
    data.augmentation, it returns images of that shape. None: none."""
    optimizer: OptimizerName = "adam"
    """adam (L2), adamw (decoupled weight decay) or sgd (Nesterov)."""
    learning_rate: float = 1e-3
    """Of the head; above 0."""
    backbone_factor: float = 1.0
    """The backbone's learning rate as a multiple of the head's; 0 to 1, 0 trains the head only."""
    frozen_stages: int = 0
    """How many stages of the backbone, from the images on, are not trained; 0 to 100: of 100 it has no more. Their
    batch-norm statistics go on unless freeze_batch_norm is true."""
    layer_decay: float = 1.0
    """A stage's learning rate as a multiple of the next one's, the last one's being the backbone's; 0.1 to 1."""
    test_time_flip: bool = False
    """Labels by the mean of the logits of an image and of its mirror image, which takes twice as long."""
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
        require(bool(self.model), "task.model must be fashion_cnn, a timm model or path/to/file.py:NAME", self.model)
        self._check_code()
        require(
            not self.batch_norm or self.model == FASHION_CNN,
            "task.batch_norm must be false where task.model is a timm model, which has its own layers "
            "(--set task.batch_norm=false)",
            self.batch_norm,
        )
        require(0 <= self.dropout <= 0.95, "task.dropout must be in 0..0.95", self.dropout)
        require(0 <= self.label_smoothing <= 0.9, "task.label_smoothing must be in 0..0.9", self.label_smoothing)
        require(0 <= self.class_weighting <= 1, "task.class_weighting must be in 0..1", self.class_weighting)
        require(self.learning_rate > 0, "task.learning_rate must be above 0", self.learning_rate)
        require(0 <= self.backbone_factor <= 1, "task.backbone_factor must be in 0..1", self.backbone_factor)
        require(0 <= self.frozen_stages <= 100, "task.frozen_stages must be in 0..100", self.frozen_stages)
        require(0.1 <= self.layer_decay <= 1, "task.layer_decay must be in 0.1..1", self.layer_decay)
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

    def _check_code(self) -> None:
        """Raises ValueError on code of one's own that is named wrongly, or does not go with other fields."""
        form = "path/to/file.py:NAME or package.module:NAME"
        rule = f"task.loss must be {CROSS_ENTROPY} or one of your own, {form}"
        require(self.loss == CROSS_ENTROPY or own_code.is_reference(self.loss), rule, self.loss)
        for name in ("metric", "augmentation"):
            value = getattr(self, name)
            require(value is None or own_code.is_reference(value), f"task.{name} must be none or {form}", value)
        taken = {metric.name for metric in METRICS}
        rule = f"task.metric must have another name than {', '.join(sorted(taken))}"
        require(self.metric is None or f"val/{self.metric_name}" not in taken, rule, self.metric)
        rule = "task.label_smoothing must be 0 with a loss of your own (--set task.label_smoothing=0)"
        require(self.loss == CROSS_ENTROPY or self.label_smoothing == 0, rule, self.label_smoothing)
        is_path = isinstance(self.pretrained, str)
        require(
            not is_path or bool(str(self.pretrained).strip()),
            f"task.pretrained must be true, false, a path or {HUB}OWNER/NAME",
            self.pretrained,
        )
        if self.model == FASHION_CNN:
            rule = "task.model_args of fashion_cnn must be width, 8 to 256, and residual, true or false, if any"
            args = {"width": 32, "residual": False, **self.model_args}
            is_width = isinstance(args["width"], int) and 8 <= args["width"] <= 256
            is_met = is_width and isinstance(args["residual"], bool) and args.keys() == {"width", "residual"}
            require(is_met, rule, dict(self.model_args))
        if self.has_own_network:
            rule = "task.head must be linear for a network of your own, which has its head (--set task.head=linear)"
            require(self.head == "linear", rule, self.head)
            rule = "task.dropout must be 0 for a network of your own: give it by task.model_args (--set task.dropout=0)"
            require(self.dropout == 0, rule, self.dropout)

    @property
    def has_own_network(self) -> bool:
        """Tells whether the network is one of the user's own."""
        return own_code.is_reference(self.model)

    @property
    def metric_name(self) -> str:
        """Returns what the metric of one's own is reported as, without `val/`; "" where there is none."""
        return (self.metric or "").rpartition(":")[2].rpartition(".")[2]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Declares losses, accuracies and F1, and the metric of one's own."""
        if self.metric is None:
            return METRICS
        return (*METRICS, Metric(f"val/{self.metric_name}", None, f"mean over images of {self.metric}", live=True))

    def check_available(self) -> None:
        """Fails in the driver on what would fail every trial; weights are for `fetch`, which takes longer.

        Raises:
            UsageError: an unknown model, code that cannot be called as it has to be, or a network without weights.
        """
        from raysweep.tasks.classification.timm_models import check_name  # here: it needs this module

        if self.has_own_network:
            own_code.load_callable(self.model, "task.model", num_classes=2, in_channels=3, **self.model_args)
        else:
            check_name(self.model)
        self.locate_weights_file()
        if self.loss != CROSS_ENTROPY:
            own_code.load_callable(self.loss, "task.loss", "logits", "labels")
        if self.metric is not None:
            own_code.load_callable(self.metric, "task.metric", "logits", "labels")
        if self.augmentation is not None:
            own_code.load_callable(self.augmentation, "task.augmentation", "images")
        if self.pretrained is True and (self.has_own_network or self.model == FASHION_CNN):
            raise UsageError(
                f"{self.model} has no pretrained weights of its own: use --set task.pretrained=false, or name a file "
                "or a repository of them: task.pretrained=PATH or hf-hub:OWNER/NAME"
            )

    def locate_weights_file(self) -> Path | None:
        """Locates the file that `pretrained` names; none: it names none.

        Raises:
            UsageError: it is not there.
        """
        if isinstance(self.pretrained, bool) or self.pretrained.startswith(HUB):
            return None
        path = resolve_path(self.pretrained, "task.pretrained")
        if path.is_dir():
            path = next((path / name for name in HUB_FILES if (path / name).is_file()), path)
        if not path.is_file():
            raise UsageError(
                f"task.pretrained must be true, false, {HUB}OWNER/NAME or a file of weights, got {self.pretrained!r}: "
                f"no file {path}"
            )
        return path

    def fetch(self, cache: Path) -> Mapping[str, Mapping[str, str]]:
        """Fetches pretrained weights into the cache; returns digests of them and of code of one's own.

        Raises:
            UsageError: the weights cannot be had.
        """
        code = own_code.digest_code(self.code_references)
        if not self.pretrained:
            return {"code": code, "weights": {}}
        from raysweep.tasks.classification.weights import fetch_weights  # slow: imports torch

        return {"code": code, "weights": {self.weights_name: fetch_weights(self, cache)}}

    def prepare(self, data: "PreparedData") -> None:
        """Links to the fetched weights beside the decoded images, where trials look for them."""
        if self.weights:
            with contextlib.suppress(FileExistsError):
                (data.folder / WEIGHTS_FOLDER).symlink_to(Path("..") / WEIGHTS_FOLDER)

    @property
    def weights_name(self) -> str:
        """Names the weights to start from by the network and their origin."""
        return f"{self.model} {self.pretrained}"
