"""Optimizers, learning-rate schedules against their closed forms, parameter groups and gradient clipping."""

import json
import math
import warnings
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import Optimizer

from raysweep.config import OptimizerName, ScheduleName
from raysweep.train.optim import Schedule, build_groups, build_optimizer, clip_gradients
from raysweep.train.state import from_tensors, to_tensors

NAMES: tuple[ScheduleName, ...] = get_args(ScheduleName)
LEARNING_RATE = 0.4


def build(
    name: ScheduleName, epochs: int, steps: int, warmup_epochs: float, rates: tuple[float, ...] = (LEARNING_RATE,)
) -> tuple[Optimizer, Schedule]:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = build_optimizer("sgd", groups, weight_decay=0, momentum=0)
    schedule = Schedule(name, optimizer, num_epochs=epochs, steps_per_epoch=steps, warmup_epochs=warmup_epochs)
    return optimizer, schedule


def walk(
    optimizer: Optimizer, schedule: Schedule, epochs: int, steps: int, losses: list[float] | None = None
) -> list[list[float]]:
    """The learning rates of each step, with the one that would follow at the end."""
    rates = []
    for epoch in range(epochs):
        for _ in range(steps):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.end_step()
        schedule.end_epoch({"val/loss": losses[epoch] if losses else 1 / (1 + epoch)})
    return [*rates, [group["lr"] for group in optimizer.param_groups]]


def rates_of(name: ScheduleName, epochs: int, steps: int, warmup_epochs: float = 0.0) -> list[float]:
    return [rates[0] for rates in walk(*build(name, epochs, steps, warmup_epochs), epochs, steps)]


def anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def expect(name: ScheduleName, step: int, total: int, warmup: int) -> float:
    """The learning rate of a step (from 0) as a closed form, while the validation loss falls."""
    if name == "one_cycle":
        peak = max(warmup, 1)
        if step <= peak:
            return anneal(LEARNING_RATE / 25, LEARNING_RATE, step / peak)
        return anneal(LEARNING_RATE, LEARNING_RATE / 25e4, (step - peak) / (total - peak))
    if step < warmup:
        return LEARNING_RATE * (step + 1) / (warmup + 1)
    if name == "cosine":
        return anneal(LEARNING_RATE, 0, (step - warmup) / (total - warmup))
    return LEARNING_RATE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup_epochs", [0.0, 0.25, 0.5, 1.0, 2.5])
def test_closed_forms(name: ScheduleName, warmup_epochs: float) -> None:
    rates = rates_of(name, 6, 4, warmup_epochs)
    warmup = round(4 * warmup_epochs)
    assert rates == pytest.approx([expect(name, step, 24, warmup) for step in range(25)], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
@pytest.mark.parametrize("epochs", [1, 3, 20])
def test_the_end_is_near_zero_over_the_trials_own_length(name: ScheduleName, epochs: int) -> None:
    rates = rates_of(name, epochs, 10)
    assert rates[-1] < 1e-4 * LEARNING_RATE
    assert 0 < rates[-2] < 0.05 * LEARNING_RATE
    assert max(rates) == pytest.approx(LEARNING_RATE)


def test_one_cycle_has_its_peak_where_the_warm_up_ends() -> None:
    rates = rates_of("one_cycle", 5, 8, 2.0)
    assert max(range(len(rates)), key=rates.__getitem__) == 16
    assert rates[16] == pytest.approx(LEARNING_RATE)


def test_plateau_halves_after_patience_2() -> None:
    losses = [1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.1, 0.2]
    rates = walk(*build("plateau", len(losses), 1, 0.0), len(losses), 1, losses)
    halvings = [rate[0] / LEARNING_RATE for rate in rates]
    # two epochs without a better loss are borne, the third one halves
    assert halvings == pytest.approx([1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25])


def test_plateau_after_a_warm_up() -> None:
    losses = [1.0] * 8
    rates = walk(*build("plateau", 8, 4, 1.0), 8, 4, losses)
    assert [rate[0] / LEARNING_RATE for rate in rates[:6]] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates[4 * 4 - 1][0] == pytest.approx(LEARNING_RATE)
    assert rates[4 * 4][0] == pytest.approx(LEARNING_RATE / 2)
    assert rates[7 * 4][0] == pytest.approx(LEARNING_RATE / 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0])
def test_groups_keep_their_ratio(name: ScheduleName, warmup_epochs: float) -> None:
    optimizer, schedule = build(name, 5, 3, warmup_epochs, rates=(0.04, 0.4, 0.0))
    for small, large, none in walk(optimizer, schedule, 5, 3, [1.0] * 5):
        assert small == pytest.approx(0.1 * large)
        assert none == 0


@given(
    name=st.sampled_from(NAMES),
    epochs=st.integers(1, 6),
    steps=st.integers(1, 5),
    warmup_epochs=st.floats(0, 8),
    stop=st.integers(0, 5),
    losses=st.lists(st.floats(0.1, 1.0), min_size=6, max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_any_schedule_goes_on_from_its_stored_state(
    name: ScheduleName, epochs: int, steps: int, warmup_epochs: float, stop: int, losses: list[float]
) -> None:
    """Never an error or a warning, never above the learning rate, and bitwise the same after a restart."""
    stop = min(stop, epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = walk(*build(name, epochs, steps, warmup_epochs), epochs, steps, losses)
        optimizer, schedule = build(name, epochs, steps, warmup_epochs)
        first = walk(optimizer, schedule, stop, steps, losses)
        tensors: dict[str, torch.Tensor] = {}
        text = json.dumps(to_tensors({"o": optimizer.state_dict(), "s": schedule.state_dict()}, tensors))
        optimizer, schedule = build(name, epochs, steps, warmup_epochs)
        state = from_tensors(json.loads(text), tensors)
        optimizer.load_state_dict(state["o"])
        schedule.load_state_dict(state["s"])
        second = walk(optimizer, schedule, epochs - stop, steps, losses[stop:])
    assert first[:-1] + second == whole
    assert all(0 <= rate[0] <= LEARNING_RATE * (1 + 1e-9) for rate in whole)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimizers_by_name(name: OptimizerName, kind: type) -> None:
    optimizer = build_optimizer(
        name, [{"params": [nn.Parameter(torch.ones(1))], "lr": 0.1}], weight_decay=0.3, momentum=0.8
    )
    assert type(optimizer) is kind
    settings = optimizer.param_groups[0]
    assert settings["lr"] == 0.1
    assert settings["weight_decay"] == 0.3
    assert settings["momentum"] == 0.8 if name == "sgd" else settings["betas"] == (0.8, 0.999)
    assert settings.get("nesterov", False) == (name == "sgd")


def step_from(name: OptimizerName, gradient: float, weight_decay: float) -> float:
    """The weight 1.0 after one step at learning rate 0.1."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = build_optimizer(name, [{"params": [weight], "lr": 0.1}], weight_decay=weight_decay, momentum=0.0)
    weight.grad = torch.full_like(weight, gradient)
    optimizer.step()
    return weight.item()


def test_weight_decay_is_l2_in_adam_and_decoupled_in_adamw() -> None:
    # Adam's first step is lr * sign(gradient + decay * weight); AdamW shrinks the weight by lr * decay first
    assert step_from("adam", -2.0, 0.5) == pytest.approx(1.1, abs=1e-6)
    assert step_from("adam", 0.0, 0.5) == pytest.approx(0.9, abs=1e-6)
    assert step_from("adamw", -2.0, 0.5) == pytest.approx(0.95 + 0.1, abs=1e-6)
    assert step_from("adamw", 0.0, 0.5) == pytest.approx(0.95, abs=1e-6)
    assert step_from("sgd", 2.0, 0.5) == pytest.approx(1 - 0.1 * 2.5)


def test_sgd_without_momentum_is_plain() -> None:
    assert step_from("sgd", 2.0, 0.0) == pytest.approx(0.8)


def parts() -> tuple[nn.Module, nn.Module]:
    return nn.Linear(2, 3), nn.Linear(3, 2)


def test_groups() -> None:
    backbone, head = parts()
    groups = build_groups([[*backbone.parameters()]], head.parameters(), learning_rate=0.1, backbone_factor=0.01)
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.1])
    assert groups[0]["params"] == list(backbone.parameters())
    assert groups[1]["params"] == list(head.parameters())


def test_a_frozen_backbone_has_no_group() -> None:
    backbone, head = parts()
    backbone.requires_grad_(False)
    (group,) = build_groups([[*backbone.parameters()]], head.parameters(), learning_rate=0.1, backbone_factor=0.0)
    assert group["params"] == list(head.parameters())


@pytest.mark.parametrize("max_norm", [None, 0.5, 1000.0])
def test_clipping_bounds_the_norm(max_norm: float | None) -> None:
    parameters: list[Any] = [
        nn.Parameter(torch.zeros(3)),
        nn.Parameter(torch.zeros(2, 2)),
        nn.Parameter(torch.zeros(1)),
    ]
    parameters[0].grad, parameters[1].grad = torch.full((3,), 3.0), torch.full((2, 2), -4.0)
    before = [parameters[0].grad.clone(), parameters[1].grad.clone()]
    norm = math.sqrt(3 * 9 + 4 * 16)
    clip_gradients(parameters, max_norm)
    scale = 1.0 if max_norm is None or max_norm > norm else max_norm / norm
    for parameter, old in zip(parameters, before, strict=False):
        torch.testing.assert_close(parameter.grad, old * scale, rtol=1e-5, atol=0)
