"""Convolutional autoencoders after the Fashion-MNIST report, with a spatial or a dense code, plain or variational."""

import torch
from torch import nn

from raysweep.config import require
from raysweep.tasks.autoencoder.config import Bottleneck

REPORT_CHANNELS = (32, 16, 8)


class Autoencoder(nn.Module):
    """Maps images (B, C, H, H) in [0, 1] to a code (B, K) and back to logits (B, C, H, H).

    Encoder: three times convolution, ReLU, dropout and pooling (28 -> 14 -> 7 -> 4); decoder: the same mirrored;
    batch normalisation, where it is asked for, before each ReLU of a convolution. A spatial code is what the last
    pooling leaves (the report's 8x4x4); a dense one is a linear layer of it. A variational encoder gives mean and log
    variance of a Gaussian for each value of the code.
    """

    def __init__(
        self,
        *,
        channels: int,
        image_size: int,
        bottleneck: Bottleneck,
        latent_size: int,
        width: float,
        dropout: float,
        batch_norm: bool,
        variational: bool,
    ) -> None:
        """Raises: ValueError: the side of the images is no multiple of 4."""
        super().__init__()
        require(image_size % 4 == 0, "data.image_size of an autoencoder must be a multiple of 4", image_size)
        wide, middle, narrow = (max(1, round(count * width)) for count in REPORT_CHANNELS)
        side = -(-image_size // 8)
        self.code_shape = (narrow, side, side)
        num_values = narrow * side * side
        self.code_size = num_values if bottleneck == "spatial" else latent_size
        self.variational = variational
        num_outputs = self.code_size * (2 if variational else 1)
        self.encoder = nn.Sequential(
            *_down(channels, wide, dropout, batch_norm),
            *_down(wide, middle, dropout, batch_norm),
            *_down(middle, narrow, dropout, batch_norm),
            nn.Flatten(),
            # A plain spatial code is the features themselves.
            nn.Identity() if bottleneck == "spatial" and not variational else nn.Linear(num_values, num_outputs),
        )  # fmt: skip
        shrink = 1 if image_size % 8 == 0 else 0  # without padding 16 becomes 14, on the way back to 28
        self.decoder = nn.Sequential(
            nn.Identity() if bottleneck == "spatial" else nn.Sequential(nn.Linear(latent_size, num_values), nn.ReLU()),
            nn.Unflatten(1, self.code_shape),
            *_convolution(narrow, narrow, 1, batch_norm), nn.Upsample(scale_factor=2),
            *_convolution(narrow, middle, 1, batch_norm), nn.Upsample(scale_factor=2),
            *_convolution(middle, wide, shrink, batch_norm), nn.Upsample(scale_factor=2),
            nn.Conv2d(wide, channels, 3, padding=1),
        )  # fmt: skip

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Encodes images: the code (B, K), or its mean, and the log variance (B, K) of a variational encoder."""
        code: torch.Tensor = self.encoder(images)
        if not self.variational:
            return code, None
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Computes logits (B, C, H, H) of the pixels: their sigmoid is the image."""
        logits: torch.Tensor = self.decoder(code)
        return logits

    def forward(
        self, images: torch.Tensor, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Computes logits, mean and log variance; `noise` (B, K) standard normal moves a variational code off its mean.

        The reparameterised Gaussian: z = mean + exp(log variance / 2) * noise (Kingma & Welling 2014, section 2.4).
        """
        mean, log_variance = self.encode(images)
        code = mean
        if noise is not None and log_variance is not None:
            code = mean + (0.5 * log_variance.float()).exp() * noise
        return self.decode(code), mean, log_variance


def _down(channels_in: int, channels_out: int, dropout: float, batch_norm: bool) -> list[nn.Module]:
    drop = [nn.Dropout(dropout)] if dropout else []
    return [*_convolution(channels_in, channels_out, 1, batch_norm), *drop, nn.MaxPool2d(2, ceil_mode=True)]


def _convolution(channels_in: int, channels_out: int, padding: int, batch_norm: bool) -> list[nn.Module]:
    normalise = [nn.BatchNorm2d(channels_out)] if batch_norm else []
    return [nn.Conv2d(channels_in, channels_out, 3, padding=padding, bias=not batch_norm), *normalise, nn.ReLU()]


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Computes KL(N(mean, exp(log variance)) || N(0, 1)) in nats, summed over the code: (B, K), (B, K) to (B,).

    Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
