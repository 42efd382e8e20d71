"""Autoencoders: plain, denoising and variational, trained on binary cross entropy or squared error."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from raysweep.config import TrialConfig, require
from raysweep.data.batches import Batch, Worker, count_steps, to_pixels
from raysweep.data.images import DataInfo
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.autoencoder.networks import Autoencoder, kl_to_standard_normal
from raysweep.train.optim import Schedule, build_optimizer
from raysweep.train.precision import arrange, autocast
from raysweep.train.state import Prepare, TrainState
from raysweep.train.task import draw_fixed_noise

NUM_SAMPLES = 64


class ActiveUnits(Metric):
    """Values of the code whose mean moves with the image: variance over images above 0.01 (Burda et al. 2016)."""

    THRESHOLD = 0.01
    total: torch.Tensor
    squares: torch.Tensor
    count: torch.Tensor

    def __init__(self, code_size: int) -> None:
        super().__init__()
        zeros = torch.zeros(code_size, dtype=torch.float64)
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("squares", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, means: torch.Tensor) -> None:
        """Takes posterior means (B, K)."""
        self.total += means.double().sum(dim=0)
        self.squares += means.double().square().sum(dim=0)
        self.count += len(means)

    def compute(self) -> torch.Tensor:
        """Their number."""
        variance = self.squares / self.count - (self.total / self.count).square()
        return (variance > self.THRESHOLD).sum()


class AutoencoderTask:
    """Trains an autoencoder; see raysweep.train.task.Task.

    Metrics, on validation images without dropout or disturbance: `loss` as in training with the whole beta; `mse`
    and `bce` mean over pixels and images, from a VAE's posterior mean; `excess_bce`: `bce` minus the entropy of the
    grey pixels, below which none can go; a VAE's `kl` in nats, summed over the code, mean over images;
    `negative_elbo` in nats: the cross entropy summed over pixels, from one sample of the code for each image, the
    same at every epoch, plus `kl`, mean over images; `active_units`.
    """

    main_module = "model"
    num_eval_images = None

    def __init__(self, config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> None:
        """Raises: ValueError: images that are not in [0, 1]."""
        assert isinstance(config.task, AutoencoderConfig)
        rule = "data.normalization of an autoencoder must be unit: its output is in [0, 1]"
        require(config.data.normalization == "unit", rule, config.data.normalization)
        self.config = config.task
        self.data = config.data
        self.training = config.training
        self.steps_per_epoch = count_steps(info.num_train, config.training.batch_size, num_workers)
        self.num_pixels = config.data.channels * config.data.image_size**2
        self.code_size = self._build_model().code_size
        names = sorted(name.removeprefix("val/") for name in self.config.reported_metrics)
        # A NaN has to show.
        metrics: dict[str, Metric] = {name: MeanMetric(nan_strategy="disable") for name in names}
        if "active_units" in metrics:
            metrics["active_units"] = ActiveUnits(self.code_size)
        self.metrics = MetricCollection(dict(metrics), compute_groups=False)

    def load_modules(self) -> dict[str, nn.Module]:
        """The autoencoder to load stored weights into."""
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

    def init_state(self, worker: Worker, prepare: Prepare) -> TrainState:
        """Model, optimizer and schedule on the worker's device."""
        model = self._build_model().to(worker.device)
        if self.training.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = build_optimizer(
            self.config.optimizer,
            [{"params": list(model.parameters()), "lr": self.config.learning_rate}],
            weight_decay=self.config.weight_decay,
            momentum=0.9,
        )
        schedule = Schedule(
            self.config.schedule,
            optimizer,
            num_epochs=self.training.epochs,
            steps_per_epoch=self.steps_per_epoch,
            warmup_epochs=1.0 if self.config.schedule == "one_cycle" else 0.0,
        )
        return TrainState(
            modules={"model": model},
            prepared={"model": prepare(model)},
            optimizers={"model": optimizer},
            schedules={"model": schedule},
        )

    def train_step(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """One optimizer step; `loss` per pixel, a VAE's with its KL term divided by the number of pixels."""
        model, optimizer = state.prepared["model"], state.optimizers["model"]
        model.train()
        images = arrange(batch.images, self.training.channels_last)
        given, noise = images, None
        if self.config.variant == "denoising":
            given = images + self.config.noise_std * torch.randn_like(images)
        elif self.config.variant == "variational":
            noise = torch.randn(len(images), self.code_size, device=images.device)
        with autocast(self.training.precision, images.device):
            logits, mean, log_variance = model(given, noise)
        loss = self._reconstruction_loss(logits.float(), images).mean()
        parts = {}
        if log_variance is not None:
            kl = kl_to_standard_normal(mean.float(), log_variance.float()).mean()
            loss = loss + self._beta(state.step) * kl / self.num_pixels
            parts["kl"] = kl.detach()
        optimizer.zero_grad(set_to_none=True)
        (loss * batch.weight if batch.weight != 1.0 else loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule = state.schedules["model"]
        assert isinstance(schedule, Schedule)
        schedule.end_step()
        return {"loss": loss.detach(), **parts}

    def _reconstruction_loss(self, logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """The loss of each pixel, (B, C, H, H)."""
        if self.config.loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, images, reduction="none")
        return F.mse_loss(logits.sigmoid(), images, reduction="none")

    def _beta(self, step: int) -> float:
        """The weight of the KL term in a step."""
        rise = self.config.kl_warmup_epochs * self.steps_per_epoch
        return self.config.beta * (min(1.0, step / rise) if rise > 0 else 1.0)

    def end_epoch(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Tells the plateau schedule the validation loss."""
        schedule = state.schedules["model"]
        assert isinstance(schedule, Schedule)
        schedule.end_epoch(metrics["val/loss"])

    def eval_step(self, state: TrainState, batch: Batch) -> None:
        """The errors of a batch."""
        model = state.modules["model"].eval()
        images = arrange(batch.images, self.training.channels_last)
        with autocast(self.training.precision, images.device):
            logits, mean, log_variance = model(images)
        per_pixel = self._reconstruction_loss(logits.float(), images)
        logits, mean = logits.float(), mean.float()
        bce = F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).mean(dim=1)
        values = {
            "loss": per_pixel.flatten(1).mean(dim=1),
            "mse": F.mse_loss(logits.sigmoid(), images, reduction="none").flatten(1).mean(dim=1),
            "bce": bce,
            "excess_bce": bce - pixel_entropy(images),
        }
        if log_variance is not None:
            kl = kl_to_standard_normal(mean, log_variance.float())
            with autocast(self.training.precision, images.device):
                sampled = model(images, draw_fixed_noise(batch.indices, self.code_size).to(images.device))[0].float()
            cross_entropy = F.binary_cross_entropy_with_logits(sampled, images, reduction="none").flatten(1).sum(dim=1)
            values["loss"] = self._reconstruction_loss(sampled, images).flatten(1).mean(dim=1)
            values["loss"] = values["loss"] + self.config.beta * kl / self.num_pixels
            values |= {"kl": kl, "negative_elbo": cross_entropy + kl, "active_units": mean}
        for name, value in values.items():
            self.metrics[name].update(value)

    def use(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Reconstructions (B, C, H, H) in [0, 1]."""
        return self.decode(module, self.encode(module, images))

    @torch.inference_mode()
    def sample(self, state: TrainState) -> npt.NDArray[np.uint8] | None:
        """A VAE's images from fixed codes of its prior."""
        if self.config.variant != "variational":
            return None
        model = state.modules["model"]
        device = next(model.parameters()).device
        return to_pixels(self.decode(model, draw_fixed_noise(np.arange(NUM_SAMPLES), self.code_size).to(device)))

    @torch.inference_mode()
    def encode(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Codes (B, K) float32 of images (B, C, H, H) in [0, 1]; a VAE's posterior means."""
        assert isinstance(model, Autoencoder)
        model.eval()
        with autocast(self.training.precision, images.device):
            return model.encode(arrange(images, self.training.channels_last))[0].float()

    @torch.inference_mode()
    def decode(self, model: nn.Module, codes: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, H) float32 in [0, 1] of codes (B, K)."""
        assert isinstance(model, Autoencoder)
        model.eval()
        with autocast(self.training.precision, codes.device):
            return model.decode(codes).float().sigmoid()


def pixel_entropy(images: torch.Tensor) -> torch.Tensor:
    """The least binary cross entropy that a reconstruction can have: (B, C, H, H) in [0, 1] to (B,), mean over pixels.

    A grey pixel x costs at least its own entropy, -x log x - (1 - x) log(1 - x) nats.
    """
    entropy = -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images))
    return entropy.flatten(1).mean(dim=1)
