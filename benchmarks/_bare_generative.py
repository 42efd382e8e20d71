"""The peers of the generative benchmarks: the reports' autoencoder, DCGAN and simple GAN in bare PyTorch loops.

Imports torch and numpy only. Each function trains fresh networks in fp32 and returns the network that makes images
and images/s.
"""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BATCH, LATENT = 128, 100


def load_images(split: Path) -> torch.Tensor:
    """Images (N, 1, 28, 28) float32 in [0, 1] in memory, from a split's npy file."""
    pixels = torch.from_numpy(np.load(split / "images.npy")).permute(0, 3, 1, 2).contiguous()
    return pixels.float().div(255)


def train_autoencoder(images: torch.Tensor, epochs: int = 1) -> tuple[nn.Module, float]:
    """Images in [0, 1]; convolutions 32-16-8 with pooling and back, binary cross entropy, Adam 1e-3."""

    def down(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]

    model = nn.Sequential(
        *down(1, 32), *down(32, 16), *down(16, 8),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(32, 1, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    began = time.perf_counter()
    for _ in range(epochs):
        for index in torch.randperm(len(images)).split(BATCH):  # type: ignore[no-untyped-call]
            loss = F.binary_cross_entropy(model(images[index]), images[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model, epochs * len(images) / (time.perf_counter() - began)


def build_gan(dense: bool) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of the simple GAN (dense) or the DCGAN."""

    def up(i: int, o: int, stride: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(i, o, 5, stride, 2, stride - 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]

    def down(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 5, 2, 2), nn.LeakyReLU(0.2), nn.Dropout(0.2)]

    if dense:
        return nn.Sequential(
            nn.Linear(LATENT, 256), nn.LeakyReLU(0.2), nn.Linear(256, 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)),
        ), nn.Sequential(
            nn.Flatten(), nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2),
            nn.Linear(256, 1),
        )  # fmt: skip
    return nn.Sequential(
        nn.Linear(LATENT, 7 * 7 * 256, bias=False), nn.BatchNorm1d(7 * 7 * 256), nn.LeakyReLU(0.2),
        nn.Unflatten(1, (256, 7, 7)), *up(256, 128, 1), *up(128, 64, 2),
        nn.ConvTranspose2d(64, 1, 5, 2, 2, 1, bias=False), nn.Tanh(),
    ), nn.Sequential(*down(1, 64), *down(64, 128), nn.Flatten(), nn.Linear(128 * 7 * 7, 1))  # fmt: skip


def train_gan(images: torch.Tensor, *, dense: bool, epochs: int = 1) -> tuple[nn.Module, float]:
    """Images in [-1, 1]; binary cross entropy, Adam(0.5, 0.999); the DCGAN with smoothing and noise from 0.10 to 0."""
    generator, discriminator = build_gan(dense)
    first_std, real_label, learning_rate = (0.0, 1.0, 2e-4) if dense else (0.10, 0.9, 1e-4)
    optimizer_g = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), learning_rate, (0.5, 0.999))
    bce = F.binary_cross_entropy_with_logits
    began = time.perf_counter()
    for epoch in range(epochs):
        std = first_std * (1 - epoch / max(1, epochs - 1))

        def judge(x: torch.Tensor, std: float = std) -> torch.Tensor:
            scores: torch.Tensor = discriminator(x + std * torch.randn_like(x))
            return scores

        for index in torch.randperm(len(images)).split(BATCH):  # type: ignore[no-untyped-call]
            real = images[index]
            fake = generator(torch.randn(len(real), LATENT))
            real_logits, fake_logits = judge(real), judge(fake.detach())
            loss_d = bce(real_logits, torch.full_like(real_logits, real_label))
            loss_d = loss_d + bce(fake_logits, torch.zeros_like(fake_logits))
            optimizer_d.zero_grad()
            loss_d.backward()  # type: ignore[no-untyped-call]
            optimizer_d.step()
            logits = judge(fake)
            loss_g = bce(logits, torch.ones_like(logits))
            optimizer_g.zero_grad()
            loss_g.backward()  # type: ignore[no-untyped-call]
            optimizer_g.step()
    return generator, epochs * len(images) / (time.perf_counter() - began)
