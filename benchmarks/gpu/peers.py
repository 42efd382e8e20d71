"""Bare loops beside which a trial is measured. They import torch and timm only, and know nothing of raysweep.

In the style of airbench (`airbench94_muon.py`): images on the device, permuted there, fused optimizers, nothing that
waits. `graphs`: a step is captured as a CUDA graph, as one would by hand. skresnet34 is trained as by timm's
`benchmark.py`: on one batch on the device, again and again.
"""

import contextlib
from collections.abc import Callable

import _bare_cnn
import _bare_generative
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 128


def build_step(
    name: str, device: torch.device, *, bf16: bool, photo_model: str
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Builds fresh networks of a study's baseline and returns their training step on images in [0, 1] and labels."""
    kind = {"fused": True} if device.type == "cuda" else {}

    def cast() -> contextlib.AbstractContextManager[None]:
        return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def adam(module: nn.Module, rate: float, beta1: float = 0.9) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), rate, (beta1, 0.999), capturable=device.type == "cuda", **kind)

    def step_down(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    if name in ("mnist_dcgan", "mnist_gan"):
        generator, discriminator = (part.to(device) for part in _bare_generative.build_gan(name == "mnist_gan"))
        of_generator, of_discriminator = adam(generator, 2e-4, 0.5), adam(discriminator, 1e-4, 0.5)
        bce = F.binary_cross_entropy_with_logits

        def train_gan(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            with cast():
                fake = generator(torch.randn(len(images), _bare_generative.LATENT, device=device))
                real_logits, fake_logits = discriminator(images * 2 - 1).float(), discriminator(fake.detach()).float()
            loss = bce(real_logits, torch.ones_like(real_logits)) + bce(fake_logits, torch.zeros_like(fake_logits))
            step_down(of_discriminator, loss)
            with cast():
                logits = discriminator(fake).float()
            return step_down(of_generator, bce(logits, torch.ones_like(logits)))

        return train_gan
    is_classifier = name != "fashion_autoencoder"
    model = (build_photo_network(photo_model) if name == "car_resnet" else build_small_network(is_classifier)).to(
        device
    )
    model = model.to(memory_format=torch.channels_last)
    optimizer = adam(model, 1e-3)

    def train(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with cast():
            output = model(images.contiguous(memory_format=torch.channels_last)).float()
        loss = F.cross_entropy(output, labels) if is_classifier else F.mse_loss(output, images)
        return step_down(optimizer, loss)

    return train


def build_photo_network(name: str) -> nn.Module:
    """Builds a network as timm has it."""
    import timm

    model: nn.Module = timm.create_model(name, num_classes=10)
    return model


def build_small_network(is_classifier: bool) -> nn.Module:
    """Builds the Fashion CNN, or convolutions like the autoencoder's."""
    if is_classifier:
        return _bare_cnn.build_network()
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(32, 1, 3, padding=1),
    )  # fmt: skip


class Loop:
    """Runs a bare loop's steps on pixels (N, H, W, C) uint8 and labels (N,) int64."""

    def __init__(
        self,
        name: str,
        pixels: torch.Tensor,
        labels: torch.Tensor,
        device: torch.device,
        *,
        batch: int,
        bf16: bool,
        graphs: bool,
        photo_model: str,
    ) -> None:
        self.pixels, self.labels, self.batch = pixels.permute(0, 3, 1, 2).to(device), labels.to(device), batch
        self.device, self.is_fixed = device, name == "car_resnet"
        step = build_step(name, device, bf16=bf16, photo_model=photo_model)
        self.places = torch.arange(batch, device=device) % len(labels)

        def run() -> None:
            step(self.pixels[self.places].float().div_(255), self.labels[self.places])

        self._step = step  # a graph does not keep the memory of the network whose steps it replays
        self._run = self._capture(run) if graphs else run

    def _capture(self, run: Callable[[], None]) -> Callable[[], None]:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def run(self, num_steps: int) -> int:
        """Runs so many steps of whole batches, and returns how many images they were."""
        order = torch.randperm(len(self.labels), device=self.device)
        for step in range(num_steps):
            if not self.is_fixed:
                first = step * self.batch % max(1, len(order) - self.batch + 1)
                chosen = order[first : first + self.batch]
                self.places[: len(chosen)].copy_(chosen)
            self._run()
        return num_steps * self.batch
