"""Generators and discriminators: the DCGAN and the dense networks of the MNIST reports, and their variants."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum

from raysweep.config import require
from raysweep.tasks.gan.config import NetworkName
from raysweep.train.precision import ieee_fp32

LABEL_SIZE = 32
"""Values of a class embedding beside the generator's noise."""
SLOPE = 0.2
"""Of the leaky ReLUs."""


class Generator(nn.Module):
    """Maps noise (B, latent_size), and labels where it is conditional, to images (B, C, H, H) in [-1, 1].

    dcgan: a dense layer of H/4 x H/4 x 256, transposed convolutions 5x5 to 128, 64 and the image (Radford et al. 2016).
    dense: layers of 256, 512 and the image. With batch normalisation after all but the last layer, or without. A
    conditional one sees the noise with a learned embedding of the class beside it (Mirza & Osindero 2014).
    """

    def __init__(
        self,
        network: NetworkName,
        *,
        latent_size: int,
        channels: int,
        image_size: int,
        batch_norm: bool,
        num_classes: int | None = None,
    ) -> None:
        """Builds the layers; conditional with `num_classes`. Raises: ValueError: a side that is no multiple of 4."""
        super().__init__()
        require(image_size % 4 == 0, "data.image_size of a GAN must be a multiple of 4", image_size)
        self.latent_size = latent_size
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, LABEL_SIZE)
        num_inputs = latent_size if num_classes is None else latent_size + LABEL_SIZE
        build = _build_dense_generator if network == "dense" else _build_dcgan_generator
        self.layers = build(num_inputs, channels, image_size, batch_norm)

    def forward(self, noise: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Generates images (B, C, H, H) in [-1, 1] of noise (B, latent_size) and, if conditional, labels (B,) int64."""
        if self.embedding is not None:
            assert labels is not None
            noise = torch.cat([noise, self.embedding(labels)], dim=1)
        images: torch.Tensor = self.layers(noise)
        return images


class Discriminator(nn.Module):
    """Maps images (B, C, H, H), and labels where it is conditional, to logits (B, 1): high for what looks real.

    dcgan: convolutions 5x5 of stride 2 to 64 and 128; dense: layers of 512 and 256; dropout after each, and a linear
    layer. No batch normalisation: the gradient penalty is one of single images (Gulrajani et al. 2017).
    A conditional one adds the product of its features and the class's embedding (projection, Miyato & Koyama 2018).
    Spectral normalisation divides each weight matrix by its largest singular value (Miyato et al. 2018).
    """

    def __init__(
        self,
        network: NetworkName,
        *,
        channels: int,
        image_size: int,
        dropout: float,
        spectral_norm: bool,
        num_classes: int | None = None,
    ) -> None:
        """Builds the layers; conditional with `num_classes`. Raises: ValueError: a side that is no multiple of 4."""
        super().__init__()
        require(image_size % 4 == 0, "data.image_size of a GAN must be a multiple of 4", image_size)
        normalise: _Normalise = normalise_spectrum if spectral_norm else lambda module: module
        if network == "dense":
            num_features = 256
            self.features = nn.Sequential(
                nn.Flatten(),
                *_activate(normalise(nn.Linear(channels * image_size**2, 512)), dropout),
                *_activate(normalise(nn.Linear(512, num_features)), dropout),
            )
        else:
            num_features = 128 * (image_size // 4) ** 2
            self.features = nn.Sequential(
                *_activate(normalise(nn.Conv2d(channels, 64, 5, 2, 2)), dropout),
                *_activate(normalise(nn.Conv2d(64, 128, 5, 2, 2)), dropout),
                nn.Flatten(),
            )
        self.score = normalise(nn.Linear(num_features, 1))
        self.embedding: nn.Module | None = None
        if num_classes is not None:
            embedding = nn.Embedding(num_classes, num_features)
            nn.init.normal_(embedding.weight, std=num_features**-0.5)  # as large as the score's weights at first
            self.embedding = normalise(embedding)

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Computes logits (B, 1) of images (B, C, H, H) and, for a conditional one, labels (B,) int64.

        Spectral normalisation is computed in fp32, whatever the layers are computed in.
        """
        with parametrize.cached():
            with ieee_fp32(images.device):
                for module in self.modules():
                    if parametrize.is_parametrized(module):
                        module.weight  # noqa: B018 - computed here, and kept for the layers
            return self._score(images, labels)

    def _score(self, images: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        features = self.features(images)
        logits: torch.Tensor = self.score(features)
        if self.embedding is not None:
            assert labels is not None
            logits = logits + (features * self.embedding(labels)).sum(dim=1, keepdim=True)
        return logits


_Normalise = Callable[[nn.Module], nn.Module]


def _activate(layer: nn.Module, dropout: float) -> list[nn.Module]:
    """Lists a layer of a discriminator and what follows it."""
    return [layer, nn.LeakyReLU(SLOPE), *([nn.Dropout(dropout)] if dropout else [])]


def _build_dense_generator(num_inputs: int, channels: int, side: int, batch_norm: bool) -> nn.Sequential:
    def grow(inputs: int, outputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm1d(outputs)] if batch_norm else []
        return [nn.Linear(inputs, outputs, bias=not batch_norm), *norm, nn.LeakyReLU(SLOPE)]

    return nn.Sequential(
        *grow(num_inputs, 256), *grow(256, 512),
        nn.Linear(512, channels * side**2), nn.Tanh(), nn.Unflatten(1, (channels, side, side)),
    )  # fmt: skip


def _build_dcgan_generator(num_inputs: int, channels: int, side: int, batch_norm: bool) -> nn.Sequential:
    def grow(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
        up = nn.ConvTranspose2d(inputs, outputs, 5, stride, 2, stride - 1, bias=not batch_norm)
        return [up, *norm, nn.LeakyReLU(SLOPE)]

    quarter = side // 4
    num_values = quarter**2 * 256
    norm = [nn.BatchNorm1d(num_values)] if batch_norm else []
    return nn.Sequential(
        nn.Linear(num_inputs, num_values, bias=not batch_norm), *norm, nn.LeakyReLU(SLOPE),
        nn.Unflatten(1, (256, quarter, quarter)), *grow(256, 128, 1), *grow(128, 64, 2),
        nn.ConvTranspose2d(64, channels, 5, 2, 2, 1, bias=not batch_norm), nn.Tanh(),
    )  # fmt: skip
