"""GAN losses against their formulas in numpy, and the gradient penalty against closed forms."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from raysweep.tasks.gan.config import LossName
from raysweep.tasks.gan.losses import (
    clip_weights,
    decision_threshold,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)

REAL = np.array([2.0, -0.5, 0.25, 1.5, 40.0])
FAKE = np.array([-3.0, 0.5, -0.25, 1.25, -40.0])
LABEL = 0.9


def sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def log(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Finite at 0, where binary cross entropies have weight 0 or saturate: enough for |logit| <= 40."""
    return np.log(np.maximum(x, 1e-300))


EXPECTED = {
    "bce": (
        -np.mean(LABEL * log(sigmoid(REAL)) + (1 - LABEL) * log(sigmoid(-REAL))) - np.mean(log(sigmoid(-FAKE))),
        -np.mean(log(sigmoid(FAKE))),
    ),
    "wasserstein": (np.mean(FAKE) - np.mean(REAL), -np.mean(FAKE)),
    "wasserstein_gp": (np.mean(FAKE) - np.mean(REAL), -np.mean(FAKE)),
    "hinge": (np.mean(np.maximum(0, 1 - REAL)) + np.mean(np.maximum(0, 1 + FAKE)), -np.mean(FAKE)),
    "least_squares": (0.5 * np.mean((REAL - LABEL) ** 2) + 0.5 * np.mean(FAKE**2), 0.5 * np.mean((FAKE - 1) ** 2)),
}


def logits(values: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("loss", EXPECTED)
def test_losses_are_the_papers_formulas(loss: LossName) -> None:
    found = discriminator_loss(loss, logits(REAL), logits(FAKE), LABEL), generator_loss(loss, logits(FAKE))
    assert [value.item() for value in found] == pytest.approx(EXPECTED[loss], rel=1e-9)
    assert all(value.shape == () for value in found)


@pytest.mark.parametrize("loss", EXPECTED)
def test_each_player_pulls_its_way(loss: LossName) -> None:
    """The discriminator wants real up and fake down, the generator fake up."""
    real, fake = (torch.zeros(3, 1, requires_grad=True) for _ in range(2))
    discriminator_loss(loss, real, fake + 0.1).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()
    fake.grad = None
    generator_loss(loss, fake).backward()
    assert fake.grad is not None
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("loss", ["wasserstein", "wasserstein_gp", "hinge"])
def test_the_real_label_belongs_to_losses_with_targets(loss: LossName) -> None:
    values = [discriminator_loss(loss, logits(REAL), logits(FAKE), label).item() for label in (1.0, 0.5)]
    assert values[0] == values[1]


def test_decision_thresholds() -> None:
    real, fake = torch.tensor([[3.0], [5.0]]), torch.tensor([[0.0], [2.0]])
    assert decision_threshold("bce", real, fake) == 0
    assert sigmoid(np.array(float(decision_threshold("bce", real, fake, 0.9)))) == pytest.approx(0.45)
    assert decision_threshold("hinge", real, fake) == 0
    assert decision_threshold("least_squares", real, fake, 0.9) == 0.45
    for loss in ("wasserstein", "wasserstein_gp"):
        assert float(decision_threshold(loss, real, fake)) == 2.5
        assert float(decision_threshold(loss, real + 100, fake + 100)) == 102.5


@pytest.mark.parametrize("length", [0.25, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_its_slopes(length: float) -> None:
    """D(x) = w x has the gradient w everywhere: the penalty is (|w| - 1)^2, its gradient 2 (|w| - 1) w / |w|."""
    weight = torch.randn(2 * 3 * 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = (weight * length / weight.norm()).requires_grad_()
    real, fake = torch.randn(2, 7, 2, 3, 3, dtype=torch.float64)
    penalty = gradient_penalty(lambda images: images.flatten(1) @ weight, real, fake)
    assert penalty.item() == pytest.approx((length - 1) ** 2, abs=1e-12)
    penalty.backward()
    expected = 2 * (length - 1) * weight.detach() / length
    torch.testing.assert_close(weight.grad, expected)


def test_the_penalty_is_taken_between_each_pair_of_images() -> None:
    """D(x) = |x|^2 / 2 has the gradient x, so that the penalty tells where it was taken."""
    places = []

    def discriminate(images: torch.Tensor) -> torch.Tensor:
        places.append(images.detach())
        return images.square().sum(dim=(1, 2, 3)) / 2

    torch.manual_seed(0)
    real, fake = torch.full((200, 1, 2, 2), 3.0), torch.full((200, 1, 2, 2), 1.0)
    penalty = gradient_penalty(discriminate, real, fake)
    (where,) = places
    assert (where.flatten(1).std(dim=1) < 1e-6).all()  # one share for an image
    shares = (where[:, 0, 0, 0] - 1) / 2
    assert 0 <= shares.min() < 0.1
    assert 0.9 < shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.5, abs=0.1)
    norms = where.flatten(1).norm(dim=1)
    assert penalty.item() == pytest.approx((norms - 1).square().mean().item(), rel=1e-5)


def test_a_flat_critic_has_a_finite_gradient() -> None:
    """The norm has no derivative at 0; training must not turn to NaN there."""
    weight = torch.zeros(4, requires_grad=True)
    penalty = gradient_penalty(lambda images: images.flatten(1) @ weight, *torch.randn(2, 3, 1, 2, 2))
    penalty.backward()
    assert penalty.item() == 1
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_the_penalty_leaves_the_generator_alone() -> None:
    fake = torch.randn(3, 1, 2, 2, requires_grad=True)
    weight = torch.ones(4, requires_grad=True)
    gradient_penalty(lambda images: images.flatten(1).square() @ weight, torch.randn(3, 1, 2, 2), fake).backward()
    assert fake.grad is None
    assert weight.grad is not None


def test_clipping_bounds_every_weight_in_place() -> None:
    weights = [torch.tensor([-2.0, 0.005, 0.3], requires_grad=True), torch.tensor([[0.01]], requires_grad=True)]
    clip_weights(weights, 0.01)
    torch.testing.assert_close(weights[0].detach(), torch.tensor([-0.01, 0.005, 0.01]))
    assert weights[1].item() == pytest.approx(0.01)
