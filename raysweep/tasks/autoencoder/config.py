"""The configuration of an autoencoder: variant, code, network, loss and optimizer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from raysweep.config import OptimizerName, ScheduleName, require
from raysweep.task_config import Metric, TaskConfig

Bottleneck = Literal["spatial", "dense"]
RECONSTRUCTION_METRICS = (
    Metric("train/loss", "minimize", "loss per pixel, a VAE's with its weighted KL term", live=True),
    Metric("val/loss", "minimize", "the same without dropout or disturbance, with the whole beta", live=True),
    Metric("val/mse", "minimize", "squared error, mean over pixels and images, a VAE's from the posterior mean"),
    Metric("val/bce", "minimize", "binary cross entropy in nats, mean over pixels and images"),
    Metric("val/excess_bce", "minimize", "that less the entropy of the grey pixels, below which none can go"),
)
VARIATIONAL_METRICS = (
    Metric("train/kl", None, "divergence of the code from its prior in nats, summed over the code"),
    Metric("val/kl", None, "the same on validation images"),
    Metric(
        "val/negative_elbo", "minimize", "cross entropy summed over pixels, of one fixed sample of the code, plus kl"
    ),
    Metric("val/active_units", "maximize", "values of the code whose mean moves with the image"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig(TaskConfig):
    """Configures network, loss and optimizer of an autoencoder; the defaults are the Fashion-MNIST report's."""

    kind: ClassVar[str] = "autoencoder"
    task: ClassVar[str] = "raysweep.tasks.autoencoder.task:AutoencoderTask"
    evaluation: ClassVar[str] = "raysweep.tasks.autoencoder.evaluation:evaluate"
    test_scores: ClassVar[str | None] = "raysweep.tasks.autoencoder.test_scores:load_test_scores"
    graph: ClassVar[str | None] = "raysweep.tasks.autoencoder.graph:build_graph"
    report_sections: ClassVar[str | None] = "raysweep.tasks.autoencoder.sections:build_sections"
    advice_on_divergence: ClassVar[str] = (
        "a lower task.learning_rate may help, or task.optimizer=adam; of a variational one also a lower task.beta"
    )

    variant: Literal["plain", "denoising", "variational"] = "plain"
    """plain; denoising: the input is disturbed (Vincent et al. 2008); variational: a VAE (Kingma & Welling 2014)."""
    bottleneck: Bottleneck = "spatial"
    """spatial: the feature map after the last pooling, the report's 4x4x8; dense: `latent_size` values."""
    latent_size: int = 32
    """Values of a dense code; 2 to 256."""
    width: float = 1.0
    """Channels as a multiple of the report's 32-16-8; 0.125 to 8."""
    dropout: float = 0.0
    """After each convolution of the encoder; 0 to 0.95."""
    batch_norm: bool = False
    """Batch normalisation after each convolution."""
    loss: Literal["bce", "mse"] = "bce"
    """Binary cross entropy or squared error, mean over pixels and images."""
    noise_std: float = 0.2
    """Deviation of the Gaussian noise on a denoising autoencoder's input, pixels in [0, 1]; above 0."""
    beta: float = 1.0
    """Weight of a VAE's KL term against the reconstruction summed over pixels (Higgins et al. 2017); 0 or more."""
    kl_warmup_epochs: float = 0.0
    """Epochs over which beta rises linearly from 0 (Bowman et al. 2016); 0 or more."""
    optimizer: OptimizerName = "adam"
    """adam (L2), adamw (decoupled weight decay) or sgd (Nesterov, momentum 0.9)."""
    learning_rate: float = 1e-3
    """Above 0."""
    weight_decay: float = 0.0
    """0 or more."""
    schedule: ScheduleName = "none"
    """Of the learning rate over the trial's own epochs."""

    def __post_init__(self) -> None:
        require(2 <= self.latent_size <= 256, "task.latent_size must be in 2..256", self.latent_size)
        require(0.125 <= self.width <= 8, "task.width must be in 0.125..8", self.width)
        require(0 <= self.dropout <= 0.95, "task.dropout must be in 0..0.95", self.dropout)
        require(self.noise_std > 0, "task.noise_std must be above 0", self.noise_std)
        require(self.beta >= 0, "task.beta must be 0 or more", self.beta)
        require(self.kl_warmup_epochs >= 0, "task.kl_warmup_epochs must be 0 or more", self.kl_warmup_epochs)
        require(self.learning_rate > 0, "task.learning_rate must be above 0", self.learning_rate)
        require(self.weight_decay >= 0, "task.weight_decay must be 0 or more", self.weight_decay)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Declares losses and errors; the ELBO's parts are a VAE's only."""
        return RECONSTRUCTION_METRICS + (VARIATIONAL_METRICS if self.variant == "variational" else ())

    @property
    def comparison_group(self) -> tuple[str, float]:
        """Returns what the size of the code depends on."""
        return self.bottleneck, self.latent_size if self.bottleneck == "dense" else self.width
