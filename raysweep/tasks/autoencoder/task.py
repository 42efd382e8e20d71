"""Autoencoders: plain, denoising and variational, trained on binary cross entropy or squared error."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from raysweep.config import require
from raysweep.data.batches import Batch, to_pixels
from raysweep.data.images import DataInfo
from raysweep.data.sampling import move_to
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.autoencoder.networks import Autoencoder, kl_to_standard_normal
from raysweep.train.metrics import Sums, get_mean
from raysweep.train.optim import Schedule, build_optimizer
from raysweep.train.precision import arrange, autocast
from raysweep.train.state import TrainState
from raysweep.train.task import Task, draw_fixed_noise
from raysweep.trial_config import TrialConfig

NUM_SAMPLES = 64
ACTIVE_VARIANCE = 0.01
"""Variance of a code's mean over images above which the value is active (Burda et al. 2016)."""


class AutoencoderTask(Task):
    """Trains an autoencoder; on validation images it has neither dropout nor disturbance."""

    config: AutoencoderConfig
    is_capturable = True

    def __init__(self, config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> None:
        """Raises: ValueError: images that are not in [0, 1]."""
        super().__init__(config, info, num_workers, folder)
        rule = "data.normalization of an autoencoder must be unit: its output is in [0, 1]"
        require(config.data.normalization == "unit", rule, config.data.normalization)
        self.num_pixels = config.data.channels * config.data.image_size**2
        self.code_size = self._build_model().code_size

    def load_modules(self) -> dict[str, nn.Module]:
        """Builds the autoencoder to load stored weights into."""
        return {"model": self._build_model()}

    def _build_model(self) -> Autoencoder:
        return Autoencoder(
            channels=self.data.channels,
            image_size=self.data.image_size,
            bottleneck=self.config.bottleneck,
            latent_size=self.config.latent_size,
            width=self.config.width,
            dropout=self.config.dropout,
            batch_norm=self.config.batch_norm,
            variational=self.config.variant == "variational",
        )

    def build_optimizers(self, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
        """Builds the optimizer that is named, with one learning rate."""
        groups = [{"params": list(modules["model"].parameters()), "lr": self.config.learning_rate}]
        optimizer = build_optimizer(self.config.optimizer, groups, weight_decay=self.config.weight_decay, momentum=0.9)
        return {"model": optimizer}

    def build_schedules(self, optimizers: dict[str, Optimizer]) -> dict[str, Schedule]:
        """Builds the schedule that is named; one_cycle rises for an epoch."""
        warmup_epochs = 1.0 if self.config.schedule == "one_cycle" else 0.0
        return {"model": self.build_schedule(self.config.schedule, optimizers["model"], warmup_epochs)}

    def compute_loss(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Computes `loss` per pixel, a VAE's with its KL term divided by the number of pixels, and `kl`."""
        images = arrange(batch.images, self.training.channels_last)
        given, noise = images, None
        if self.config.variant == "denoising":
            given = images + self.config.noise_std * torch.randn_like(images)
        elif self.config.variant == "variational":
            noise = torch.randn(len(images), self.code_size, device=images.device)
        logits, mean, log_variance = self.forward(state.prepared["model"], given, noise)
        loss = self._reconstruction_loss(logits.float(), images).mean()
        if log_variance is None:
            return {"loss": loss}
        kl = kl_to_standard_normal(mean.float(), log_variance.float()).mean()
        return {"loss": loss + self.get_step_value(state, "beta", kl.device) * kl / self.num_pixels, "kl": kl}

    def _reconstruction_loss(self, logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Computes the loss of each pixel, (B, C, H, H)."""
        if self.config.loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, images, reduction="none")
        return F.mse_loss(logits.sigmoid(), images, reduction="none")

    def step_values(self, state: TrainState) -> dict[str, float]:
        """Computes the weight of the KL term, `beta`, in the step that follows."""
        rise = self.config.kl_warmup_epochs * self.steps_per_epoch
        return {"beta": self.config.beta * (min(1.0, state.step / rise) if rise > 0 else 1.0)}

    def eval_step(self, state: TrainState, batch: Batch) -> Sums:
        """Computes the errors of a batch and, of a VAE, the sums and squares of its codes' means."""
        model = state.modules["model"].eval()
        images = arrange(batch.images, self.training.channels_last)
        logits, mean, log_variance = self.forward(model, images)
        logits, mean = logits.float(), mean.float()
        bce = F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).mean(dim=1)
        values = {
            "loss": self._reconstruction_loss(logits, images).flatten(1).mean(dim=1),
            "mse": F.mse_loss(logits.sigmoid(), images, reduction="none").flatten(1).mean(dim=1),
            "bce": bce,
            "excess_bce": bce - pixel_entropy(images),
        }
        if log_variance is not None:
            kl = kl_to_standard_normal(mean, log_variance.float())
            noise = move_to(draw_fixed_noise(batch.indices, self.code_size), images.device)
            sampled = self.forward(model, images, noise)[0].float()
            cross_entropy = F.binary_cross_entropy_with_logits(sampled, images, reduction="none").flatten(1).sum(dim=1)
            values["loss"] = self._reconstruction_loss(sampled, images).flatten(1).mean(dim=1)
            values["loss"] = values["loss"] + self.config.beta * kl / self.num_pixels
            values |= {"kl": kl, "negative_elbo": cross_entropy + kl}
            values |= {"codes": mean.double(), "squared_codes": mean.double().square()}
        return {name: value.sum(dim=0) for name, value in values.items()}

    def compute_metrics(self, sums: Sums) -> dict[str, torch.Tensor | float]:
        """Computes mean errors and, of a VAE, the active units of its code."""
        metrics = dict(super().compute_metrics(sums))
        if "codes" in sums:
            metrics["active_units"] = count_active_units(sums)
        return metrics

    def infer(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Reconstructs images: (B, C, H, H) in [0, 1]."""
        return self.decode(module, self.encode(module, images))

    @torch.inference_mode()
    def sample(self, state: TrainState) -> npt.NDArray[np.uint8] | None:
        """Makes a VAE's images from fixed codes of its prior."""
        if self.config.variant != "variational":
            return None
        model = state.modules["model"]
        device = next(model.parameters()).device
        return to_pixels(self.decode(model, draw_fixed_noise(np.arange(NUM_SAMPLES), self.code_size).to(device)))

    @torch.inference_mode()
    def encode(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Encodes images (B, C, H, H) in [0, 1]: codes (B, K) float32, a VAE's posterior means."""
        assert isinstance(model, Autoencoder)
        model.eval()
        with autocast(self.training.precision, images.device):
            return model.encode(arrange(images, self.training.channels_last))[0].float()

    @torch.inference_mode()
    def decode(self, model: nn.Module, codes: torch.Tensor) -> torch.Tensor:
        """Decodes codes (B, K): images (B, C, H, H) float32 in [0, 1]."""
        assert isinstance(model, Autoencoder)
        model.eval()
        with autocast(self.training.precision, codes.device):
            return model.decode(codes).float().sigmoid()


def count_active_units(sums: Sums) -> torch.Tensor:
    """Counts the values of the code whose mean varies over images, from `codes` and `squared_codes` (K,) float64."""
    variance = get_mean(sums, "squared_codes") - get_mean(sums, "codes").square()
    active: torch.Tensor = (variance > ACTIVE_VARIANCE).sum()
    return active


def pixel_entropy(images: torch.Tensor) -> torch.Tensor:
    """Computes the least binary cross entropy of a reconstruction: (B, C, H, H) in [0, 1] to (B,), mean over pixels.

    A grey pixel x costs at least its own entropy, -x log x - (1 - x) log(1 - x) nats.
    """
    entropy = -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images))
    return entropy.flatten(1).mean(dim=1)
