"""Losses of generator and discriminator; all are means over the images of a batch."""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F

from raysweep.tasks.gan.config import CRITICS, LossName


def discriminator_loss(loss: LossName, real: torch.Tensor, fake: torch.Tensor, real_label: float = 1.0) -> torch.Tensor:
    """Computes the discriminator's loss of its logits on real and generated images, a mean; without gradient penalty.

    With D for logits and E for means over the batch:

    - bce: -E[y log s(D(x)) + (1 - y) log(1 - s(D(x)))] - E[log(1 - s(D(G(z))))], s the sigmoid, y = `real_label`
      (Goodfellow et al. 2014; one-sided smoothing: Salimans et al. 2016);
    - wasserstein, wasserstein_gp: E[D(G(z))] - E[D(x)] (Arjovsky et al. 2017, Gulrajani et al. 2017);
    - hinge: E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))] (Lim & Ye 2017);
    - least_squares: E[(D(x) - y)^2] / 2 + E[D(G(z))^2] / 2 (Mao et al. 2017, with a = 0, b = y).
    """
    if loss == "bce":
        return F.binary_cross_entropy_with_logits(
            real, torch.full_like(real, real_label)
        ) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    if loss == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if loss == "least_squares":
        return (real - real_label).square().mean() / 2 + fake.square().mean() / 2
    return fake.mean() - real.mean()


def generator_loss(loss: LossName, fake: torch.Tensor) -> torch.Tensor:
    """Computes the generator's loss of the discriminator's logits on its images, a mean.

    - bce: -E[log s(D(G(z)))], the non-saturating form (Goodfellow et al. 2014);
    - wasserstein, wasserstein_gp, hinge: -E[D(G(z))];
    - least_squares: E[(D(G(z)) - 1)^2] / 2 (Mao et al. 2017, with c = 1).
    """
    if loss == "bce":
        return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    if loss == "least_squares":
        return (fake - 1).square().mean() / 2
    return -fake.mean()


def decision_threshold(
    loss: LossName, real: torch.Tensor, fake: torch.Tensor, real_label: float = 1.0
) -> torch.Tensor | float:
    """Computes the logit above which an image counts as judged real.

    Half way between the targets of both kinds, which with bce are probabilities: what a discriminator says that
    cannot tell them apart. For a critic, whose scores have no zero, half way between the means of the batch.
    """
    if loss in CRITICS:
        return (real.mean() + fake.mean()) / 2
    if loss == "bce":
        return math.log(real_label / (2 - real_label))
    return real_label / 2 if loss == "least_squares" else 0.0


def gradient_penalty(
    discriminate: Callable[[torch.Tensor], torch.Tensor], real: torch.Tensor, fake: torch.Tensor
) -> torch.Tensor:
    """Computes E[(|gradient of D at x| - 1)^2], a mean over points between real and generated images (Gulrajani 2017).

    x = e real + (1 - e) fake with e uniform in 0..1 for each pair of images (B, C, H, W); |.| is the L2 norm over an
    image. It is differentiated a second time: everything is float32.
    """
    share = torch.rand(len(real), 1, 1, 1, dtype=real.dtype, device=real.device)
    mixed = torch.lerp(fake.detach(), real, share).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(mixed).sum(), mixed, create_graph=True)
    norms: torch.Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norms - 1).square().mean()


@torch.no_grad()
def clip_weights(parameters: Iterable[torch.Tensor], limit: float) -> None:
    """Bounds every weight to [-limit, limit] in place (Arjovsky et al. 2017)."""
    for parameter in parameters:
        parameter.clamp_(-limit, limit)
