"""The peer of training_throughput.py: the Fashion-MNIST CNN in a bare PyTorch loop. Imports torch and numpy only."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 128


def load_images(split: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 28, 28) float32 in [0, 1] and labels (N,) int64 in memory, from a split's npy files."""
    pixels = torch.from_numpy(np.load(split / "images.npy")).permute(0, 3, 1, 2).contiguous()
    return pixels.float().div(255), torch.from_numpy(np.load(split / "labels.npy"))


def build_network() -> nn.Sequential:
    """0.8 million weights."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(128 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def train(images: torch.Tensor, labels: torch.Tensor, *, channels_last: bool = False) -> float:
    """Images/s of one epoch with a fresh network: Adam, weight decay 1e-5, fp32."""
    model = build_network()
    if channels_last:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    model.train()
    began = time.perf_counter()
    for index in torch.randperm(len(images)).split(BATCH):  # type: ignore[no-untyped-call]
        loss = F.cross_entropy(model(images[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return len(images) / (time.perf_counter() - began)
