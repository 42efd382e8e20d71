"""The configuration of an autoencoder: variant, code, network, loss and optimizer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from raysweep.config import OptimizerName, ScheduleName, TaskConfig, require

Bottleneck = Literal["spatial", "dense"]
RECONSTRUCTION_METRICS = frozenset({"val/loss", "val/mse", "val/bce", "val/excess_bce"})
VARIATIONAL_METRICS = frozenset({"val/kl", "val/negative_elbo", "val/active_units"})


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig(TaskConfig):
    """Network, loss and optimizer of an autoencoder; the defaults are the Fashion-MNIST report's."""

    kind: ClassVar[str] = "autoencoder"
    task: ClassVar[str] = "raysweep.tasks.autoencoder.task:AutoencoderTask"
    evaluation: ClassVar[str] = "raysweep.tasks.autoencoder.evaluation:evaluate"
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
    def reported_metrics(self) -> frozenset[str]:
        """What a trial of this configuration reports; the ELBO's parts are a VAE's only."""
        return RECONSTRUCTION_METRICS | (VARIATIONAL_METRICS if self.variant == "variational" else frozenset())

    @property
    def comparison_group(self) -> tuple[str, float]:
        """What the size of the code depends on."""
        return self.bottleneck, self.latent_size if self.bottleneck == "dense" else self.width
