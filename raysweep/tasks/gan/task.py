"""Generative adversarial networks: DCGAN and dense, several losses, instance noise, conditional or not."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer

from raysweep.config import require
from raysweep.data.batches import Batch, Worker, to_pixels
from raysweep.data.images import DataInfo
from raysweep.data.sampling import move_to
from raysweep.tasks.gan.augment import diff_augment
from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.failures import find_failure
from raysweep.tasks.gan.judge.metrics import score_generated
from raysweep.tasks.gan.judge.network import load_judge
from raysweep.tasks.gan.judge.store import FILE
from raysweep.tasks.gan.losses import (
    clip_weights,
    decision_threshold,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from raysweep.tasks.gan.networks import Discriminator, Generator
from raysweep.tasks.gan.noise import time_of
from raysweep.train.metrics import Sums, count_values, get_batches, get_sum
from raysweep.train.optim import build_optimizer
from raysweep.train.precision import arrange, autocast
from raysweep.train.state import Prepare, TrainState
from raysweep.train.task import Task, draw_fixed_noise
from raysweep.trial_config import TrialConfig

NUM_SAMPLES = 16


class GanTask(Task):
    """Trains a generator against a discriminator.

    A training step shows a batch and as many generated images to the discriminator and updates it; then, in every
    `discriminator_steps`-th step, updates the generator by how the new discriminator judges the same images.
    Evaluation compares validation images with as many generated ones (conditional: of the same classes) by the
    features that the judge, a classifier, has of them; the noise is the same for an image's position in the split,
    whatever the trial, epoch, batch size and number of workers.
    """

    config: GanConfig
    main_module = "generator"
    is_wrapped = False  # DDP allows no second derivatives
    is_capturable = True

    def __init__(self, config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> None:
        """Raises: ValueError: images that are not in [-1, 1]."""
        super().__init__(config, info, num_workers, folder)
        rule = "data.normalization of a GAN must be symmetric: its images are in [-1, 1]"
        require(config.data.normalization == "symmetric", rule, config.data.normalization)
        self.num_eval_images = self.config.num_eval_images
        self.ema_decay = self.config.ema_decay
        self.judge = None if folder is None else load_judge(folder / FILE)[0]

    def load_modules(self) -> dict[str, nn.Module]:
        """Builds generator and discriminator, to train or to load stored weights into."""
        shape = {"channels": self.data.channels, "image_size": self.data.image_size}
        num_classes = self.num_classes if self.config.conditional else None
        return {
            "generator": Generator(
                self.config.network,
                latent_size=self.config.latent_size,
                batch_norm=self.config.batch_norm,
                num_classes=num_classes,
                **shape,
            ),
            "discriminator": Discriminator(
                self.config.network,
                dropout=self.config.dropout,
                spectral_norm=self.config.spectral_norm,
                num_classes=num_classes,
                **shape,
            ),
        }

    def build_optimizers(self, modules: dict[str, nn.Module]) -> dict[str, Optimizer]:
        """Builds an Adam for each network."""
        rates = {
            "generator": self.config.generator_learning_rate,
            "discriminator": self.config.discriminator_learning_rate,
        }
        return {
            name: build_optimizer(
                "adam",
                [{"params": modules[name].parameters(), "lr": rate}],
                weight_decay=0.0,
                momentum=self.config.beta1,
            )
            for name, rate in rates.items()
        }

    def init_state(self, worker: Worker, prepare: Prepare) -> TrainState:
        """Builds both networks, their optimizers and the generator's average; the judge goes to the same device."""
        if self.judge is not None:
            self.judge.to(worker.device).eval()
        return super().init_state(worker, prepare)

    def train_step(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Trains the discriminator and, in every `discriminator_steps`-th step, the generator."""
        generator, device = state.modules["generator"], batch.images.device
        trains_generator = self._trains_generator(state)
        noise = torch.randn(len(batch.images), self.config.latent_size, device=device)
        with torch.set_grad_enabled(trains_generator), autocast(self.training.precision, device):
            fake = generator(noise, batch.labels).float()
        noise_std = self.get_step_value(state, "noise_std", device)
        means = self._train_discriminator(state, batch, fake.detach(), noise_std)
        if trains_generator:
            means["loss_generator"] = self._train_generator(state, batch, fake, noise_std)
        return {**means, "noise_std": noise_std}

    def _trains_generator(self, state: TrainState) -> bool:
        return (state.step + 1) % self.config.discriminator_steps == 0

    def step_form(self, state: TrainState) -> Hashable:
        """Tells apart steps that train the generator, and that add noise."""
        return self._trains_generator(state), self.noise_std(state) > 0

    def step_values(self, state: TrainState) -> dict[str, float]:
        """Computes the deviation of the instance noise, `noise_std`."""
        return {"noise_std": self.noise_std(state)}

    def _train_discriminator(
        self, state: TrainState, batch: Batch, fake: torch.Tensor, noise_std: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Updates the discriminator; `fake` has as many images as the batch, without a graph."""
        config, discriminator = self.config, state.modules["discriminator"]
        seen_real, real_logits = self._discriminate(
            state, arrange(batch.images, self.training.channels_last), batch.labels, noise_std
        )
        seen_fake, fake_logits = self._discriminate(state, fake, batch.labels, noise_std)
        loss = discriminator_loss(config.loss, real_logits, fake_logits, config.real_label)
        with torch.no_grad():
            threshold = decision_threshold(config.loss, real_logits, fake_logits, config.real_label)
            means = {
                "loss_discriminator": loss.detach(),
                "loss_generator": generator_loss(config.loss, fake_logits),
                "real_accuracy": (real_logits > threshold).float().mean(),
                "fake_accuracy": (fake_logits <= threshold).float().mean(),
            }
        if config.loss == "wasserstein_gp":
            penalty = gradient_penalty(lambda images: discriminator(images, batch.labels), seen_real, seen_fake)
            means["gradient_penalty"] = penalty.detach()
            loss = loss + config.gradient_penalty * penalty
        self.optimize(state, "discriminator", loss, batch.weight)
        if config.loss == "wasserstein":
            clip_weights(discriminator.parameters(), config.weight_clip)
        return means

    def _train_generator(
        self, state: TrainState, batch: Batch, fake: torch.Tensor, noise_std: torch.Tensor
    ) -> torch.Tensor:
        """Updates the generator, whose graph `fake` has, and its average; returns its loss."""
        discriminator = state.modules["discriminator"].requires_grad_(False)  # spares half of the backward pass
        try:
            loss = generator_loss(self.config.loss, self._discriminate(state, fake, batch.labels, noise_std)[1])
            self.optimize(state, "generator", loss, batch.weight)
        finally:
            discriminator.requires_grad_(True)
        return loss.detach()

    def _discriminate(
        self, state: TrainState, images: torch.Tensor, labels: torch.Tensor, noise_std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shows the discriminator augmented images with noise drawn afresh; returns these and its logits (B, 1)."""
        seen = diff_augment(images, self.config.augmentation)
        if self.noise_std(state):
            seen = torch.addcmul(seen, torch.randn_like(seen), noise_std)
        with autocast(self.training.precision, images.device):
            logits = state.modules["discriminator"](seen, labels)
        return seen, logits.float()

    def noise_std(self, state: TrainState) -> float:
        """Computes the standard deviation of the instance noise in the step that follows."""
        noise = self.config.noise
        if noise.per_step:
            return noise.value(time_of(state.step, self.training.epochs * self.steps_per_epoch))
        return noise.value(time_of(state.epoch, self.training.epochs))

    def find_failure(self, history: Sequence[Mapping[str, float]]) -> str | None:
        """Finds mode collapse or discriminator saturation, where they have lasted."""
        return find_failure(self.config, history, self.num_classes)

    @torch.inference_mode()
    def eval_step(self, state: TrainState, batch: Batch) -> Sums:
        """Shows the judge the batch and as many generated images: features of both, classes seen in the latter."""
        assert self.judge is not None, "evaluation needs the folder of the judge"
        noise = move_to(draw_fixed_noise(batch.indices, self.config.latent_size), batch.images.device)
        fake = self.generate(state.best_modules()["generator"], noise, batch.labels)
        real_features, _ = self.judge(unit_range(batch.images))
        fake_features, fake_logits = self.judge(fake)
        class_counts = count_values(fake_logits.argmax(dim=1), self.num_classes)
        return {"real": [real_features], "fake": [fake_features], "class_counts": class_counts}

    def compute_metrics(self, sums: Sums) -> dict[str, torch.Tensor | float]:
        """Computes what a generator is judged by."""
        return score_generated(get_batches(sums, "real"), get_batches(sums, "fake"), get_sum(sums, "class_counts"))

    @torch.inference_mode()
    def generate(self, generator: nn.Module, noise: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Generates images (B, C, H, H) float32 in [0, 1] of noise (B, latent_size), conditional ones of labels too."""
        generator.eval()
        with autocast(self.training.precision, noise.device):
            images = generator(noise, labels)
        return unit_range(images.float())

    def infer(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Generates as many images in [0, 1] as are given."""
        noise = torch.zeros(len(images), self.config.latent_size, device=images.device)
        return self.generate(module, noise, torch.zeros(len(images), dtype=torch.int64, device=images.device))

    def sample(self, state: TrainState) -> npt.NDArray[np.uint8]:
        """Makes 16 images (16, H, H, C) of fixed noise; a conditional generator's of the classes in turn."""
        generator = state.best_modules()["generator"]
        device = next(generator.parameters()).device
        labels = torch.arange(NUM_SAMPLES, device=device) % self.num_classes
        noise = draw_fixed_noise(np.arange(NUM_SAMPLES), self.config.latent_size).to(device)
        images = self.generate(generator, noise, labels)
        return to_pixels(images)


def unit_range(images: torch.Tensor) -> torch.Tensor:
    """Maps images from [-1, 1] to [0, 1]."""
    return (images + 1) / 2
