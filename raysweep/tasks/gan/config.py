"""The configuration of a GAN: networks, loss, noise, optimizers and when a trial has failed."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from raysweep.config import require
from raysweep.task_config import Metric, TaskConfig
from raysweep.tasks.gan.noise import NoiseSchedule

if TYPE_CHECKING:
    from raysweep.data.images import PreparedData

NetworkName = Literal["dense", "dcgan"]
LossName = Literal["bce", "wasserstein", "wasserstein_gp", "hinge", "least_squares"]
Policy = Literal["none", "translation", "translation_cutout", "colour_translation_cutout"]
CRITICS = ("wasserstein", "wasserstein_gp")
"""Losses whose discriminator is a critic: only differences of its scores have a meaning."""
METRICS = (
    Metric("train/loss_generator", None, "before the discriminator's update in steps that train it only", live=True),
    Metric("train/loss_discriminator", None, "without gradient penalty", live=True),
    Metric("train/noise_std", None, "deviation of the instance noise, pixels in [-1, 1]"),
    Metric("train/real_accuracy", None, "share of real images that the discriminator takes for real, in 0..1"),
    Metric("train/fake_accuracy", None, "share of generated images that it takes for generated, in 0..1"),
    Metric(
        "val/frechet_distance", "minimize", "squared distance of Gaussians fitted to the judge's features, 0 or more"
    ),
    Metric("val/coverage", "maximize", "share of real images with a generated one in their neighbourhood, in 0..1"),
    Metric("val/density", "maximize", "mean number of real neighbourhoods around a generated image over k, 0 or more"),
    Metric("val/num_classes_generated", "maximize", "classes that the judge sees in generated images"),
    Metric("val/class_kl", "minimize", "divergence of their histogram from equal shares in nats, 0 or more"),
)
PENALTY = Metric("train/gradient_penalty", None, "squared distance of the gradient's norm from 1, without its weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class GanConfig(TaskConfig):
    """Configures networks, loss, noise and optimizers of a GAN."""

    kind: ClassVar[str] = "gan"
    task: ClassVar[str] = "raysweep.tasks.gan.task:GanTask"
    evaluation: ClassVar[str] = "raysweep.tasks.gan.evaluation:evaluate"
    test_scores: ClassVar[str | None] = "raysweep.tasks.gan.test_scores:load_test_scores"
    graph: ClassVar[str | None] = "raysweep.tasks.gan.graph:build_graph"
    report_sections: ClassVar[str | None] = "raysweep.tasks.gan.sections:build_sections"
    advice_on_divergence: ClassVar[str] = (
        "a lower task.generator_learning_rate and task.discriminator_learning_rate may help, or "
        "task.spectral_norm=true or another task.loss"
    )
    network: NetworkName = "dcgan"
    """dense: three layers each; dcgan: 5x5 convolutions."""
    latent_size: int = 100
    """Values of noise that an image is made of; 1 to 1024."""
    conditional: bool = False
    """The class is an input: an embedding beside the noise, a projection in the discriminator."""
    batch_norm: bool = True
    """In the generator, after all layers but the last."""
    spectral_norm: bool = False
    """In the discriminator; not with loss=wasserstein, whose clipping it would undo."""
    dropout: float = 0.0
    """In the discriminator, after each layer but the last; 0 to 0.95."""
    loss: LossName = "bce"
    """bce (non-saturating), wasserstein (clipped weights), wasserstein_gp, hinge or least_squares."""
    real_label: float = 1.0
    """Target for real images, of bce and least_squares only; above 0.5, up to 1."""
    weight_clip: float = 0.01
    """Bound of the discriminator's weights, of wasserstein only; above 0."""
    gradient_penalty: float = 10.0
    """Weight of the gradient penalty, of wasserstein_gp only; above 0."""
    discriminator_steps: int = 1
    """Batches for each of the generator's steps; the discriminator trains on all of them; 1 to 100."""
    generator_learning_rate: float = 2e-4
    """Adam's; above 0."""
    discriminator_learning_rate: float = 2e-4
    """Adam's; above 0."""
    beta1: float = 0.5
    """Of both Adams, beside beta2 = 0.999; 0 to 0.999."""
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    """On all images that the discriminator is shown, over the trial's own epochs."""
    augmentation: Policy = "none"
    """Differentiable changes of all images that the discriminator is shown."""
    ema_decay: float | None = None
    """Decay of the generator's moving average, per step, which is then evaluated; none: no average."""
    num_eval_images: int = 2000
    """Validation images, and as many generated ones, that are compared after each epoch; at least 20."""
    grace_epochs: int = 5
    """No trial fails for what it was in its first epochs; 0 or more."""
    failing_epochs: int = 10
    """Consecutive epochs of mode collapse or discriminator saturation that end a trial; at least 1."""
    min_coverage: float = 0.02
    """Coverage below which the generator has collapsed; 0 to 1."""
    max_accuracy: float = 0.99
    """Discriminator accuracy from which it is saturated; above 0.5, up to 1."""

    def __post_init__(self) -> None:
        def check(name: str, holds: bool, rule: str) -> None:
            require(holds, f"task.{name} must be {rule}", getattr(self, name))

        check("latent_size", 1 <= self.latent_size <= 1024, "in 1..1024")
        check("dropout", 0 <= self.dropout <= 0.95, "in 0..0.95")
        check("real_label", 0.5 < self.real_label <= 1, "above 0.5 and at most 1")
        check("discriminator_steps", 1 <= self.discriminator_steps <= 100, "in 1..100")
        for name in ("weight_clip", "gradient_penalty", "generator_learning_rate", "discriminator_learning_rate"):
            check(name, getattr(self, name) > 0, "above 0")
        check("beta1", 0 <= self.beta1 <= 0.999, "in 0..0.999")
        check("ema_decay", self.ema_decay is None or 0 < self.ema_decay < 1, "in 0..1 or none")
        check("num_eval_images", self.num_eval_images >= 20, "at least 20")
        check("grace_epochs", self.grace_epochs >= 0, "0 or more")
        check("failing_epochs", self.failing_epochs >= 1, "at least 1")
        check("min_coverage", 0 <= self.min_coverage <= 1, "in 0..1")
        check("max_accuracy", 0.5 < self.max_accuracy <= 1, "above 0.5 and at most 1")
        rule = "task.spectral_norm must be false with task.loss=wasserstein: it would undo the clipping of weights"
        require(not (self.spectral_norm and self.loss == "wasserstein"), rule, self.spectral_norm)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Declares what training reports, by the loss, and what the judge measures."""
        return (*METRICS, PENALTY) if self.loss == "wasserstein_gp" else METRICS

    def prepare(self, data: "PreparedData") -> None:
        """Puts the judge of generated images beside the decoded ones: the shipped one, or one trained for them."""
        from raysweep.tasks.gan.judge.store import ensure_judge  # slow: imports torch

        ensure_judge(data)
