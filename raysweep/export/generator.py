"""Holds what exported generators share: pixels as files have them, and words for their users."""

from collections.abc import Sequence

import torch
from torch import nn


class ImageGenerator(nn.Module):
    """Maps what a generator takes to pixels (B, H, W, C) uint8."""

    def __init__(self, generator: nn.Module) -> None:
        """Takes a generator of images (B, C, H, W) in [0, 1]."""
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """Generates images."""
        images = self.generator(*inputs)
        return (images.mul(255).round().clamp(0, 255).permute(0, 2, 3, 1).byte(),)


def describe_usage(noise_size: int, classes: Sequence[str]) -> str:
    """Says what goes in and comes out."""
    lines = [f"Input: noise, float32 (B, {noise_size}), standard normal."]
    if classes:
        lines.append(f"Input: labels, int64 (B,): {', '.join(f'{i} {name}' for i, name in enumerate(classes))}.")
    return "\n".join([*lines, "Output: images, uint8 (B, height, width, channels)."])
