"""The parts of a study that all tasks have: data, training, objective and budget, as plain, validated, frozen data."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from raysweep.errors import UsageError, shorten

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["none", "cosine", "plateau", "one_cycle"]
WandbMode = Literal["online", "offline", "disabled"]
TrackerName = Literal["tensorboard", "mlflow"]
"""Trackers beside W&B."""

KEEP_LEADING = 3
"""How many of a search's leading trials keep their models."""
COSTS = frozenset({"model/num_parameters", "model/latency_ms"})
"""What the model of any task costs: second objectives beside the task's own metrics; see raysweep.train.cost."""


def require(condition: bool, rule: str, value: object) -> None:
    """Raises ValueError with the rule and the value received unless `condition` holds."""
    if not condition:
        raise ValueError(f"{rule}, got {shorten(repr(value))}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """Random changes of training images, each value at strength 1."""

    strength: float = 0.0
    """Scales everything below; 0 to 1, 0 leaves the images as they are."""
    random_crop: float = 0.3
    """Largest share of each side that a random window leaves out; 0 to 0.9."""
    rotation_degrees: float = 15.0
    """Largest rotation to either side; 0 to 180."""
    horizontal_flip: float = 0.5
    """Probability of a mirror image; 0 to 1."""
    brightness: float = 0.3
    """Largest relative change of brightness; 0 to 1."""
    contrast: float = 0.3
    """Largest relative change of contrast; 0 to 1."""
    trivial_augment: float = 0.0
    """Probability of one of TrivialAugment's operations, drawn at random; 0 to 1."""
    random_erasing: float = 0.0
    """Probability that a window, 2 to 33 % of the image, is blanked; 0 to 1."""
    mixup: float = 0.0
    """Parameter of the Beta distribution by which an image and its label are blended with others; 0 to 10, 0: never."""
    cutmix: float = 0.0
    """The same for an image a window of which is replaced by another's; 0 to 10, 0: never."""

    def __post_init__(self) -> None:
        for name in ("strength", "horizontal_flip", "brightness", "contrast", "trivial_augment", "random_erasing"):
            require(0 <= getattr(self, name) <= 1, f"augmentation.{name} must be in 0..1", getattr(self, name))
        for name in ("mixup", "cutmix"):
            require(0 <= getattr(self, name) <= 10, f"augmentation.{name} must be in 0..10", getattr(self, name))
        require(0 <= self.random_crop <= 0.9, "augmentation.random_crop must be in 0..0.9", self.random_crop)
        require(
            0 <= self.rotation_degrees <= 180,
            "augmentation.rotation_degrees must be in 0..180",
            self.rotation_degrees,
        )

    @property
    def mixes(self) -> bool:
        """Tells whether images are mixed with others, and so their labels."""
        return self.strength * max(self.mixup, self.cutmix) > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where images come from and what a batch of them looks like."""

    source: str = "sample"
    """A folder, `sample`, `mnist`, `fashion-mnist`, `kaggle:OWNER/NAME`, `hf:NAME`, `s3://BUCKET/FOLDER`, `gs://...`,
    or one of your own: path/to/file.py:NAME."""
    image_size: int = 224
    """Side of the images that the model sees, in pixels; 8 to 2048."""
    cache_size: int | None = None
    """Side of the decoded images kept on disk, in pixels, at least image_size; none: image_size."""
    cache: Literal["auto", "decoded", "stream"] = "auto"
    """decoded: images are decoded once and kept; stream: anew in each epoch; auto: decoded where the disk has room."""
    channels: Literal[1, 3] = 3
    """1 grey, 3 RGB."""
    normalization: Literal["imagenet", "unit", "symmetric"] = "imagenet"
    """ImageNet mean and deviation; pixels in [0, 1]; pixels in [-1, 1]."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Random changes of training images."""
    split_seed: int = 0
    """Decides which images are held out where the source has no such split; 0 or more."""
    max_bad_fraction: float = 0.01
    """Share of files that may be undecodable before the run is refused; 0 to 1."""
    max_pixels: int = 50_000_000
    """Images whose header names more pixels than this are not decoded; 1 to 1,000,000,000."""

    def __post_init__(self) -> None:
        require(bool(self.source.strip()), "data.source must be a folder or a source's name", self.source)
        require(self.split_seed >= 0, "data.split_seed must be 0 or more", self.split_seed)
        require(8 <= self.image_size <= 2048, "data.image_size must be in 8..2048 pixels", self.image_size)
        require(
            self.cache_size is None or self.image_size <= self.cache_size <= 4096,
            f"data.cache_size must be at least data.image_size ({self.image_size}) and at most 4096",
            self.cache_size,
        )
        require(0 <= self.max_bad_fraction <= 1, "data.max_bad_fraction must be in 0..1", self.max_bad_fraction)
        require(1 <= self.max_pixels <= 10**9, "data.max_pixels must be in 1..1,000,000,000", self.max_pixels)
        require(
            self.normalization != "imagenet" or self.channels == 3,
            "data.normalization=imagenet needs data.channels=3",
            self.channels,
        )

    @property
    def decoded_size(self) -> int:
        """Side of the decoded images on disk, in pixels."""
        return self.cache_size or self.image_size


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How long and in what numbers a trial trains."""

    epochs: int = 3
    """Passes over the training images; 1 to 1,000,000."""
    batch_size: int = 32
    """Images per step over all workers together; 1 to 65536."""
    early_stopping_patience: int | None = None
    """Epochs without a better objective before the trial ends; none: never."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32 (never TF32) or bf16 autocast; weights stay fp32. auto: what trains a network faster, which a run measures
    once where there are units for bf16, fp32 where there are none."""
    channels_last: bool = True
    """Memory layout (N, H, W, C) for convolutions; with precision=auto (N, C, H, W) where that measures faster."""
    cuda_graphs: Literal["auto", True, False] = "auto"
    """Records a training step once and repeats it: needs a GPU, one worker and a task that is_capturable, which one
    with code of your own is not. auto: wherever that holds."""
    eval_batch_size: int = 500
    """Images per evaluation step on one worker; changes speed, not results; 1 to 65536."""
    checkpoint_period_s: float = 5.0
    """Seconds from one checkpoint of a trial to the next, at most what a kill costs beside the epoch in progress; 0:
    after each epoch; 0 to 3600."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "training.epochs must be at least 1", self.epochs)
        require(self.epochs <= 10**6, "training.epochs must be at most 1,000,000", self.epochs)
        require(1 <= self.batch_size <= 65536, "training.batch_size must be in 1..65536", self.batch_size)
        require(
            self.early_stopping_patience is None or self.early_stopping_patience >= 1,
            "training.early_stopping_patience must be at least 1 or none",
            self.early_stopping_patience,
        )
        require(
            1 <= self.eval_batch_size <= 65536, "training.eval_batch_size must be in 1..65536", self.eval_batch_size
        )
        require(
            0 <= self.checkpoint_period_s <= 3600,
            "training.checkpoint_period_s must be in 0..3600",
            self.checkpoint_period_s,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What the search optimises, from the validation split or of the model itself."""

    metric: str
    """A metric that the task reports, such as `val/accuracy`; of a second objective also one of COSTS."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which values are better."""

    def __post_init__(self) -> None:
        rule = "an objective is a validation metric, val/NAME, or a cost of the model, model/NAME"
        require(self.metric.startswith(("val/", "model/")), rule, self.metric)
        is_cost = self.metric.startswith("model/")
        require(not is_cost or self.direction == "minimize", f"{self.metric} must have minimize", self.direction)

    @staticmethod
    def parse(text: str) -> "Objective":
        """Parses the objective that METRIC:DIRECTION names; a cost of the model needs no direction.

        Raises:
            ValueError: it is none.
        """
        metric, colon, direction = text.partition(":")
        if not colon and metric.startswith("model/"):
            direction = "minimize"
        require(direction in ("maximize", "minimize"), f"give {metric}:maximize or {metric}:minimize", text)
        return Objective(metric=metric, direction=direction)  # type: ignore[arg-type]

    def is_better(self, value: float, other: float | None) -> bool:
        """Tells whether `value` beats `other`; anything beats None."""
        if other is None:
            return True
        return value > other if self.direction == "maximize" else value < other


def format_value(value: float) -> str:
    """Formats an objective: four decimals, three digits of a small one, none after the point of a large one."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """When the search starts no further trial."""

    trials: int = 20
    """Trials in all, the baseline and failed ones included; at least 1."""
    time_s: float | None = None
    """Seconds of searching, in all sessions together, after which no new trial starts; none: no limit."""
    target: float | None = None
    """Value of the objective with which the search ends: no new trial starts after one is as good; none: no such."""

    def __post_init__(self) -> None:
        require(self.trials >= 1, "the number of trials must be at least 1", self.trials)
        require(self.trials <= 10**6, "the number of trials must be at most 1,000,000", self.trials)
        require(self.time_s is None or self.time_s > 0, "the time budget must be above 0 s", self.time_s)
        require(self.time_s is None or self.time_s <= 3.2e8, "the time budget must be at most ten years", self.time_s)
        require(self.target is None or math.isfinite(self.target), "the target must be a number", self.target)


def check_config(make: Any, what: str) -> Any:
    """Calls `make`; a ValueError of a config class becomes a UsageError that starts with `what`."""
    try:
        return make()
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{what}: {error}") from None
