"""Shows where in an image the evidence for a class is, by the gradient at the network's last feature maps.

HiResCAM (Draelos and Carin 2020, https://arxiv.org/abs/2011.08891), which is Grad-CAM where a network averages its maps
before a linear layer, and is right, too, where it does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from raysweep.tasks.classification.networks import Classifier

MIN_SIDE = 4
"""Maps of fewer rows show nothing of where; an earlier layer is taken then."""
INPUT_SIDE = 14
"""Side of the maps of a network without feature maps, such as a ViT: the input times its gradient, by squares."""


def compute_heat_maps(network: Classifier, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Computes a map of each image for its class.

    network: in evaluation mode. images: (B, C, H, W), normalised. classes: (B,) int64.

    Returns (B, h, w) float32 in [0, 1], on the CPU: the highest is 1, or all are 0.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad(), _record_maps(network) as maps:
        chosen = network(images).gather(1, classes[:, None]).sum()
        found = next((layer for layer in reversed(maps) if layer.shape[-1] >= MIN_SIDE), images)
        (gradient,) = torch.autograd.grad(chosen, found)
    if found is images:
        evidence = F.adaptive_avg_pool2d((images * gradient).abs().sum(dim=1, keepdim=True), INPUT_SIDE)[:, 0]
    else:
        evidence = (gradient * found).sum(dim=1).relu()
    evidence = evidence.detach().float().cpu()
    return evidence / evidence.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


@contextmanager
def _record_maps(network: Classifier) -> Iterator[list[torch.Tensor]]:
    """Records the square feature maps (B, C, S, S) that the backbone's children return, while it is open."""
    maps: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3]:
            maps.append(output)

    hooks = [child.register_forward_hook(keep) for child in network.backbone.children()]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
