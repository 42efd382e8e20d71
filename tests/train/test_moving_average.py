"""The moving average of weights: torch's to the last digit, wherever its tensors are, and its checkpoints load."""

from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raysweep.train.state import MovingAverage


def build_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), spectral_norm(nn.Linear(144, 2)))


def build_torchs(module: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True).requires_grad_(False)


def update(average: MovingAverage, module: nn.Module) -> None:
    """One training step's."""
    average.update(module)
    average.num_updates += 1


def train(module: nn.Module, *averages: MovingAverage | AveragedModel, num_steps: int) -> None:
    """Moves parameters and, by calling it, buffers."""
    for _ in range(num_steps):
        module(torch.randn(8, 1, 8, 8))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        for average in averages:
            update(average, module) if isinstance(average, MovingAverage) else average.update_parameters(module)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_it_is_torchs_to_the_last_digit(decay: float) -> None:
    module = build_module()
    ours, torchs = MovingAverage(module, decay), build_torchs(module, decay)
    train(module, ours, torchs, num_steps=5)
    expected = torchs.module.state_dict()
    state = ours.module.state_dict()
    assert state.keys() == expected.keys()
    for name, value in state.items():
        if value.is_floating_point():
            assert torch.equal(value, expected[name]), name
    assert state["1.num_batches_tracked"] == 5  # as the module has it; torch rounds an average down
    assert not any(parameter.requires_grad for parameter in ours.module.parameters())


def test_torchs_state_is_taken_up_and_goes_on_the_same() -> None:
    module = build_module()
    torchs = build_torchs(module, 0.9)
    train(module, torchs, num_steps=3)
    ours = MovingAverage(build_module(), 0.9)
    ours.load_state_dict(torchs.state_dict())
    assert ours.num_updates == 3
    train(module, ours, torchs, num_steps=2)
    for own, theirs in zip(ours.module.parameters(), torchs.module.parameters(), strict=True):
        assert torch.equal(own, theirs)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    again = build_torchs(build_module(), 0.9)
    again.load_state_dict(ours.state_dict())
    assert again.n_averaged == 5


def test_every_tensor_is_on_the_modules_device() -> None:
    module = build_module().to("meta")
    average = MovingAverage(module, 0.9)
    update(average, module)
    update(average, module)
    assert all(tensor.is_meta for tensor in chain(average.module.parameters(), average.module.buffers()))


@pytest.mark.gpu
def test_every_tensor_is_on_the_gpu_as_nccl_wants() -> None:
    module = build_module().cuda()
    average = MovingAverage(module, 0.9)
    update(average, module)
    update(average, module)
    assert all(tensor.is_cuda for tensor in chain(average.module.parameters(), average.module.buffers()))
