"""GAN networks: the reports' layers, every side and option, conditioning by embedding and projection."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from raysweep.tasks.gan.config import NetworkName
from raysweep.tasks.gan.networks import Discriminator, Generator

NETWORKS = ("dense", "dcgan")


def report_networks(network: NetworkName) -> tuple[nn.Module, nn.Module]:
    """The two reports' networks, written out; built in this order."""
    if network == "dense":
        return (
            nn.Sequential(
                nn.Linear(100, 256), nn.LeakyReLU(0.2), nn.Linear(256, 512), nn.LeakyReLU(0.2),
                nn.Linear(512, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)),
            ),
            nn.Sequential(
                nn.Flatten(), nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2),
                nn.Linear(256, 1),
            ),
        )  # fmt: skip
    return (
        nn.Sequential(
            nn.Linear(100, 12544, bias=False), nn.BatchNorm1d(12544), nn.LeakyReLU(0.2), nn.Unflatten(1, (256, 7, 7)),
            nn.ConvTranspose2d(256, 128, 5, 1, 2, 0, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(128, 64, 5, 2, 2, 1, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(64, 1, 5, 2, 2, 1, bias=False), nn.Tanh(),
        ),
        nn.Sequential(
            nn.Conv2d(1, 64, 5, 2, 2), nn.LeakyReLU(0.2), nn.Dropout(0.2),
            nn.Conv2d(64, 128, 5, 2, 2), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Flatten(), nn.Linear(128 * 49, 1),
        ),
    )  # fmt: skip


def build(
    network: NetworkName, side: int = 28, channels: int = 1, num_classes: int | None = None, **options: Any
) -> tuple[Generator, Discriminator]:
    """A generator with 100 values of noise and a discriminator."""
    shape: dict[str, Any] = {"channels": channels, "image_size": side, "num_classes": num_classes}
    usual = {"batch_norm": network == "dcgan", "dropout": 0.2 * (network == "dcgan"), "spectral_norm": False}
    parts: dict[str, Any] = {**usual, **options}
    batch_norm = parts.pop("batch_norm")
    return Generator(network, latent_size=100, batch_norm=batch_norm, **shape), Discriminator(network, **parts, **shape)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_networks_are_the_reports(network: NetworkName) -> None:
    """The same seed gives the same weights, and they the same images and logits, with dropout and batch statistics."""
    torch.manual_seed(3)
    generator, discriminator = build(network)
    torch.manual_seed(3)
    expected_generator, expected_discriminator = report_networks(network)
    kinds = [
        [type(layer) for layer in module.modules() if not list(layer.children())]
        for module in (generator, expected_generator, discriminator, expected_discriminator)
    ]
    assert kinds[0] == kinds[1]
    assert kinds[2] == kinds[3]
    noise = torch.randn(6, 100)
    for training in (True, False):
        for module in (generator, discriminator, expected_generator, expected_discriminator):
            module.train(training)
        torch.manual_seed(4)
        images, logits = generator(noise), discriminator(generator(noise))
        torch.manual_seed(4)
        assert torch.equal(images, expected_generator(noise))
        assert torch.equal(logits, expected_discriminator(expected_generator(noise)))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (12, 1)])
@pytest.mark.parametrize("options", [{}, {"batch_norm": False, "spectral_norm": True}, {"batch_norm": True}])
def test_shapes(network: NetworkName, conditional: bool, side: int, channels: int, options: dict[str, Any]) -> None:
    generator, discriminator = build(network, side, channels, 10 if conditional else None, **options)
    labels = torch.arange(5) if conditional else None
    images = generator(torch.randn(5, 100), labels)
    assert images.shape == (5, channels, side, side)
    assert images.abs().max() <= 1
    logits = discriminator(images, labels)
    assert logits.shape == (5, 1)
    logits.sum().backward()
    for module in (generator, discriminator):
        assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_normalisation_is_the_generators_choice(network: NetworkName, batch_norm: bool) -> None:
    generator, discriminator = build(network, batch_norm=batch_norm)

    def count(module: nn.Module) -> int:
        return sum(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in module.modules())

    assert count(generator) == (0 if not batch_norm else 2 if network == "dense" else 3)
    assert count(discriminator) == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_a_side_that_is_no_multiple_of_4_is_refused(network: NetworkName) -> None:
    with pytest.raises(ValueError, match="multiple of 4, got 30"):
        build(network, side=30)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_class_changes_the_image(network: NetworkName) -> None:
    generator, _ = build(network, num_classes=10)
    noise = torch.randn(1, 100).expand(2, 100)
    first, second = generator.eval()(noise, torch.tensor([3, 8]))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_discriminator_projects_its_features_on_the_class(network: NetworkName) -> None:
    """Miyato & Koyama 2018, eq. 3: score(features) + embedding(label) . features."""
    _, discriminator = build(network, num_classes=10)
    discriminator.eval()
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([0, 9, 9, 4])
    features = discriminator.features(images).detach().double()
    weight, bias = (parameter.detach().double() for parameter in discriminator.score.parameters())
    assert isinstance(discriminator.embedding, nn.Embedding)
    table = discriminator.embedding.weight.detach().double()
    expected = [
        (feature * (weight[0] + table[label])).sum() + bias[0] for feature, label in zip(features, labels, strict=True)
    ]
    torch.testing.assert_close(
        discriminator(images, labels)[:, 0].detach().double(), torch.stack(expected), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_spectral_normalisation_bounds_every_weight_matrix(network: NetworkName) -> None:
    _, discriminator = build(network, num_classes=10, spectral_norm=True)
    for _ in range(60):  # each call in training mode is one step of the power iteration
        discriminator(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    layers = [layer for layer in discriminator.modules() if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding)]
    assert len(layers) == 4
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item()
        assert largest == pytest.approx(1, abs=0.05)


class Probe(nn.Module):
    """Leaves a weight as it is, and notes whether it is computed under autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return weight


def test_spectral_norm_is_computed_once_and_in_fp32_under_autocast() -> None:
    shape: dict[str, Any] = {"channels": 1, "image_size": 28, "dropout": 0.0, "num_classes": 4}
    network, probe = Discriminator("dcgan", spectral_norm=True, **shape), Probe()
    parametrize.register_parametrization(network.score, "weight", probe)
    probe.seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(8, 1, 28, 28), torch.arange(8) % 4)
    assert probe.seen == [False]
