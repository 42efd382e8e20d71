"""Generative adversarial networks: DCGAN and dense, several losses, instance noise, conditional or not."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch import nn
from torch.optim import Adam

from raysweep.config import TrialConfig, require
from raysweep.data.batches import Batch, Worker, count_steps, to_pixels
from raysweep.data.images import DataInfo
from raysweep.tasks.gan.augment import diff_augment
from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.failures import find_failure
from raysweep.tasks.gan.judge.metrics import GenerationMetrics
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
from raysweep.train.precision import arrange, autocast
from raysweep.train.state import Prepare, TrainState, build_average
from raysweep.train.task import draw_fixed_noise

NUM_SAMPLES = 16


class GanTask:
    """Trains a generator against a discriminator; see raysweep.train.task.Task.

    A training step shows a batch and as many generated images to the discriminator and updates it; then, in every
    `discriminator_steps`-th step, updates the generator by how the new discriminator judges the same images.
    Evaluation compares validation images with as many generated ones (conditional: of the same classes) by the
    features that the judge, a classifier, has of them; the noise is the same for an image's position in the split,
    whatever the trial, epoch, batch size and number of workers.

    Reported as means over the images of an epoch: `loss_generator` (in steps that train the discriminator only: of
    the same images before its update), `loss_discriminator` without gradient penalty, `gradient_penalty` without its
    weight (wasserstein_gp), `noise_std`, and the shares of real and generated images that the discriminator takes
    for what they are, `real_accuracy` and `fake_accuracy`.
    """

    main_module = "generator"

    def __init__(self, config: TrialConfig, info: DataInfo, num_workers: int = 1, folder: Path | None = None) -> None:
        """Raises: ValueError: images that are not in [-1, 1]."""
        assert isinstance(config.task, GanConfig)
        rule = "data.normalization of a GAN must be symmetric: its images are in [-1, 1]"
        require(config.data.normalization == "symmetric", rule, config.data.normalization)
        self.config = config.task
        self.data = config.data
        self.training = config.training
        self.num_workers = num_workers
        self.num_classes = len(info.classes)
        self.steps_per_epoch = count_steps(info.num_train, config.training.batch_size, num_workers)
        self.num_eval_images = self.config.num_eval_images
        self.judge = None if folder is None else load_judge(folder / FILE)[0]
        self.metrics = GenerationMetrics(self.num_classes)

    def load_modules(self) -> dict[str, nn.Module]:
        """Generator and discriminator to load stored weights into."""
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

    def init_state(self, worker: Worker, prepare: Prepare) -> TrainState:
        """Both networks, their optimizers and the generator's average, on the worker's device.

        The networks stay as they are: DDP allows no second derivatives, so that gradients are averaged here.
        """
        modules = {name: module.to(worker.device) for name, module in self.load_modules().items()}
        if self.training.channels_last:
            modules = {name: module.to(memory_format=torch.channels_last) for name, module in modules.items()}
        if self.judge is not None:
            self.judge.to(worker.device).eval()
        rates = {
            "generator": self.config.generator_learning_rate,
            "discriminator": self.config.discriminator_learning_rate,
        }
        decay = self.config.ema_decay
        return TrainState(
            modules=modules,
            prepared=modules,
            optimizers={
                name: Adam(modules[name].parameters(), rate, (self.config.beta1, 0.999)) for name, rate in rates.items()
            },
            averages={"generator": build_average(modules["generator"], decay)} if decay else {},
        )

    def train_step(self, state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of the discriminator and, in every `discriminator_steps`-th step, one of the generator."""
        generator, device = state.modules["generator"].train(), batch.images.device
        state.modules["discriminator"].train()
        trains_generator = (state.step + 1) % self.config.discriminator_steps == 0
        noise = torch.randn(len(batch.images), self.config.latent_size, device=device)
        with torch.set_grad_enabled(trains_generator), autocast(self.training.precision, device):
            fake = generator(noise, batch.labels).float()
        means = self._train_discriminator(state, batch, fake.detach())
        if trains_generator:
            means["loss_generator"] = self._train_generator(state, batch, fake)
        return {**means, "noise_std": torch.tensor(self.noise_std(state), device=device)}

    def _train_discriminator(self, state: TrainState, batch: Batch, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """Updates the discriminator; `fake` has as many images as the batch, without a graph."""
        config, discriminator = self.config, state.modules["discriminator"]
        seen_real, real_logits = self._discriminate(
            state, arrange(batch.images, self.training.channels_last), batch.labels
        )
        seen_fake, fake_logits = self._discriminate(state, fake, batch.labels)
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
        self._update(state, "discriminator", loss * batch.weight)
        if config.loss == "wasserstein":
            clip_weights(discriminator.parameters(), config.weight_clip)
        return means

    def _train_generator(self, state: TrainState, batch: Batch, fake: torch.Tensor) -> torch.Tensor:
        """Updates the generator, whose graph `fake` has, and its average; returns its loss."""
        discriminator = state.modules["discriminator"].requires_grad_(False)  # spares half of the backward pass
        loss = generator_loss(self.config.loss, self._discriminate(state, fake, batch.labels)[1])
        self._update(state, "generator", loss * batch.weight)
        discriminator.requires_grad_(True)
        if "generator" in state.averages:
            state.averages["generator"].update_parameters(state.modules["generator"])
        return loss.detach()

    def _discriminate(
        self, state: TrainState, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the discriminator is shown of images, augmented and with noise drawn afresh, and its logits (B, 1)."""
        seen = diff_augment(images, self.config.augmentation)
        noise_std = self.noise_std(state)
        if noise_std:
            seen = seen.add(torch.randn_like(seen), alpha=noise_std)
        with autocast(self.training.precision, images.device):
            logits = state.modules["discriminator"](seen, labels)
        return seen, logits.float()

    def _update(self, state: TrainState, name: str, loss: torch.Tensor) -> None:
        """One step of a network's optimizer down the gradient of `loss`, averaged over workers."""
        optimizer = state.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.num_workers > 1:
            average_gradients(state.modules[name], self.num_workers)
        optimizer.step()

    def noise_std(self, state: TrainState) -> float:
        """The standard deviation of the instance noise in the step that follows."""
        noise = self.config.noise
        if noise.per_step:
            return noise.value(time_of(state.step, self.training.epochs * self.steps_per_epoch))
        return noise.value(time_of(state.epoch, self.training.epochs))

    def end_epoch(self, state: TrainState, metrics: dict[str, float]) -> str | None:
        """Mode collapse or discriminator saturation, where they have lasted."""
        history = [row for row in state.history if row["epoch"] < metrics["epoch"]]
        return find_failure(self.config, [*history, metrics], self.num_classes)

    @torch.inference_mode()
    def eval_step(self, state: TrainState, batch: Batch) -> None:
        """Compares the batch with as many generated images."""
        assert self.judge is not None, "evaluation needs the folder of the judge"
        noise = draw_fixed_noise(batch.indices, self.config.latent_size).to(batch.images.device)
        fake = self.generate(state.best_modules()["generator"], noise, batch.labels)
        real_features, _ = self.judge(unit_range(batch.images))
        fake_features, fake_logits = self.judge(fake)
        for name in ("frechet_distance", "coverage", "density"):
            self.metrics[name].update(real_features, fake_features)
        self.metrics["num_classes_generated"].update(fake_logits)

    @torch.inference_mode()
    def generate(self, generator: nn.Module, noise: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, C, H, H) float32 in [0, 1] of noise (B, latent_size); a conditional one needs labels (B,)."""
        generator.eval()
        with autocast(self.training.precision, noise.device):
            images = generator(noise, labels)
        return unit_range(images.float())

    def use(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """As many generated images in [0, 1] as are given."""
        noise = torch.zeros(len(images), self.config.latent_size, device=images.device)
        return self.generate(module, noise, torch.zeros(len(images), dtype=torch.int64, device=images.device))

    def sample(self, state: TrainState) -> npt.NDArray[np.uint8]:
        """16 images (16, H, H, C) of fixed noise; a conditional generator's of the classes in turn."""
        generator = state.best_modules()["generator"]
        device = next(generator.parameters()).device
        labels = torch.arange(NUM_SAMPLES, device=device) % self.num_classes
        noise = draw_fixed_noise(np.arange(NUM_SAMPLES), self.config.latent_size).to(device)
        images = self.generate(generator, noise, labels)
        return to_pixels(images)


def unit_range(images: torch.Tensor) -> torch.Tensor:
    """Images in [-1, 1] as images in [0, 1]."""
    return (images + 1) / 2


def average_gradients(module: nn.Module, num_workers: int) -> None:
    """Replaces the gradients of a module by their means over all workers."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= num_workers
    means = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
