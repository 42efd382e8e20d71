"""The judge: a small convolutional classifier whose penultimate layer gives features, and its file."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from raysweep import file_guard
from raysweep.atomic_files import Json
from raysweep.train import checkpoint
from raysweep.train.precision import ieee_fp32

NUM_FEATURES = 64
MAX_IMAGE_SIZE = 64
"""Larger images are judged at this side, so that judging stays cheap beside generating."""
GRID = 3


class Judge(nn.Module):
    """Classifies images: like LeNet (LeCun et al., 1998), three convolutions with batch norm, two dense layers."""

    def __init__(self, *, num_classes: int, channels: int = 1, image_size: int = 28, dropout: float = 0.3) -> None:
        super().__init__()
        self.settings = {"num_classes": num_classes, "channels": channels, "image_size": image_size}
        self.image_size = min(image_size, MAX_IMAGE_SIZE)
        self.convolutions = nn.Sequential(
            *_convolution(channels, 32, 5),
            nn.MaxPool2d(2),
            *_convolution(32, 64, 3),
            nn.MaxPool2d(2),
            *_convolution(64, 64, 3),
            nn.AdaptiveAvgPool2d(GRID),
        )
        # Batch norm gives every feature the same scale, whatever the data set, so that distances compare.
        self.features = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(64 * GRID * GRID, NUM_FEATURES, bias=False),
            nn.BatchNorm1d(NUM_FEATURES),
            nn.ReLU(),
        )
        self.classes = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes features (B, NUM_FEATURES), 0 or more, and logits (B, num_classes) of images (B, C, H, W) in [0, 1].

        Images of another side than those it was trained on are resized to that. In evaluation mode in IEEE fp32, so
        that scores compare from machine to machine.
        """
        with contextlib.nullcontext() if self.training else ieee_fp32(images.device):
            return self._judge(images)

    def _judge(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if images.shape[-2:] != (self.image_size, self.image_size):
            side = [self.image_size, self.image_size]
            images = F.interpolate(images, side, mode="bilinear", antialias=True)
        features = self.features(self.convolutions(images))
        return features, self.classes(features)


def _convolution(inputs: int, outputs: int, side: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


@torch.inference_mode()
def judge_batches(judge: Judge, batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes features (N, NUM_FEATURES) and logits (N, num_classes), float32 on the CPU, of batches of images."""
    judge.eval()
    answers = [judge(batch) for batch in batches]
    return torch.cat([features.cpu() for features, _ in answers]), torch.cat([logits.cpu() for _, logits in answers])


def save_judge(path: Path, judge: Judge, facts: Json) -> None:
    """Writes the judge with JSON facts, to which its settings and the digest of its weights are added, atomically."""
    digest = checkpoint.digest_tensors({key: value.cpu() for key, value in judge.state_dict().items()}, "")
    checkpoint.save_weights(path, {"judge": judge}, {**facts, "settings": judge.settings, "digest": digest})


def load_judge(path: Path) -> tuple[Judge, Json]:
    """Loads the judge in a file of `save_judge`, on the CPU in evaluation mode, and its facts.

    `accuracy` is on the validation images, `source` says where the weights come from; `digest`, a SHA-256 of the
    weights alone, is the same wherever scores can be compared.

    Raises:
        CorruptFileError: the file is damaged.
    """
    tensors, facts = checkpoint.load_tensors(path)
    with file_guard.guard(path, "a judge of images", "remove it, and it is made again"):
        judge = Judge(**facts["settings"])
        judge.load_state_dict({key.removeprefix("judge/"): value for key, value in tensors.items()})
    return judge.eval(), facts
