"""The GAN task: its step is the report's, its two networks are updated apart, and every field changes something."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raysweep.config import Objective
from raysweep.config_fields import list_fields
from raysweep.data.batches import Batch, Worker, iterate_evaluation
from raysweep.data.images import PreparedData
from raysweep.run_folder import TrialFolder
from raysweep.tasks.gan.config import GanConfig
from raysweep.tasks.gan.losses import gradient_penalty
from raysweep.tasks.gan.noise import time_of
from raysweep.tasks.gan.task import GanTask, unit_range
from raysweep.train import checkpoint
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.report import EpochReport
from raysweep.train.state import TrainState
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

OBJECTIVE = Objective(metric="val/frechet_distance", direction="minimize")
LOSSES = ("bce", "wasserstein", "wasserstein_gp", "hinge", "least_squares")
BATCH = 8


@pytest.fixture(autouse=True)
def one_thread_each(one_thread: Iterator[None]) -> None:
    """For all tests here."""


@pytest.fixture
def build(squares: PreparedData, make_gan_config: Callable[..., TrialConfig]) -> Callable[..., Any]:
    """`(judged=False, **fields)` -> a task and its fresh state."""

    def make(judged: bool = False, **values: Any) -> tuple[GanTask, TrainState]:
        torch.manual_seed(0)
        task = build_task(make_gan_config(**values), squares.info, folder=squares.folder if judged else None)
        assert isinstance(task, GanTask)
        return task, task.init_state(Worker(), lambda module: module)

    return make


def make_batch(seed: int, num_images: int = BATCH, weight: float = 1.0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(num_images, 1, 28, 28, generator=draw) * 2 - 1
    return Batch(images, torch.randint(4, (num_images,), generator=draw), np.arange(num_images), weight)


def train(task: GanTask, state: TrainState, num_steps: int) -> list[dict[str, torch.Tensor]]:
    """Seeded steps on seeded batches."""
    rows = []
    for _ in range(num_steps):
        torch.manual_seed(100 + state.step)
        rows.append(task.train_step(state, make_batch(state.step)))
        state.end_step()
    return rows


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def is_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        value.shape == second[name].shape and torch.equal(value, second[name]) for name, value in first.items()
    )


def without_speed(state: TrainState) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key not in OF_MACHINES} for row in state.history]


def report_step(
    generator: nn.Module, discriminator: nn.Module, optimizers: tuple[Any, Any], real: torch.Tensor, std: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The report's loop body, written out: losses of generator and discriminator."""
    bce = F.binary_cross_entropy_with_logits
    fake = generator(torch.randn(len(real), 100))

    def judge(images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = discriminator(images + std * torch.randn_like(images))
        return scores

    real_logits, fake_logits = judge(real), judge(fake.detach())
    loss_d = bce(real_logits, torch.full_like(real_logits, 0.9)) + bce(fake_logits, torch.zeros_like(fake_logits))
    optimizers[1].zero_grad()
    loss_d.backward()
    optimizers[1].step()
    logits = judge(fake)
    loss_g = bce(logits, torch.ones_like(logits))
    optimizers[0].zero_grad()
    loss_g.backward()
    optimizers[0].step()
    return loss_g.detach(), loss_d.detach()


@pytest.mark.parametrize(("network", "dropout"), [("dense", 0.0), ("dcgan", 0.2)])
def test_a_step_is_the_reports(network: str, dropout: float, build: Callable[..., Any]) -> None:
    task, state = build(
        network=network,
        latent_size=100,
        batch_norm=network == "dcgan",
        dropout=dropout,
        real_label=0.9,
        discriminator_learning_rate=1e-4,
        noise={"kind": "linear", "start": 0.1, "end": 0.0},
        channels_last=False,
    )
    generator, discriminator = (copy.deepcopy(state.modules[name]) for name in ("generator", "discriminator"))
    optimizers = (
        torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999)),
        torch.optim.Adam(discriminator.parameters(), 1e-4, (0.5, 0.999)),
    )
    for step in range(3):
        state.epoch = step  # of 4: noise 0.1, 0.067, 0.033
        (means,) = train(task, state, 1)
        torch.manual_seed(100 + step)
        expected = report_step(generator, discriminator, optimizers, make_batch(step).images, 0.1 * (1 - step / 3))
        torch.testing.assert_close((means["loss_generator"], means["loss_discriminator"]), expected)
        assert float(means["noise_std"]) == pytest.approx(0.1 * (1 - step / 3))
    for name, module in (("generator", generator), ("discriminator", discriminator)):
        for key, value in module.state_dict().items():
            # A tenth of a step; where a gradient is all but zero, Adam's first steps have the sign of its rounding.
            close = torch.isclose(state.modules[name].state_dict()[key], value, rtol=1e-3, atol=2e-5)
            assert close.float().mean() > 0.999, f"{name} {key}: {int((~close).sum())} of {close.numel()} differ"


@pytest.mark.parametrize("network", ["dense", "dcgan"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_networks_are_updated_apart(network: str, loss: str, build: Callable[..., Any]) -> None:
    """The discriminator's step leaves the generator as it is, and the generator's the discriminator."""
    after = {}
    for discriminator_steps in (1, 2):
        task, state = build(network=network, loss=loss, discriminator_steps=discriminator_steps, ema_decay=0.9)
        generator = {name: value.clone() for name, value in state.modules["generator"].named_parameters()}
        average = {name: value.clone() for name, value in state.averages["generator"].module.named_parameters()}
        train(task, state, 1)
        moved = {
            name: not torch.equal(value, generator[name])
            for name, value in state.modules["generator"].named_parameters()
        }
        assert all(moved.values()) if discriminator_steps == 1 else not any(moved.values())
        if discriminator_steps == 2:
            assert is_same(average, dict(state.averages["generator"].module.named_parameters()))
        assert all(parameter.requires_grad for parameter in state.modules["discriminator"].parameters())
        after[discriminator_steps] = snapshot(state.modules["discriminator"])
    assert is_same(after[1], after[2])


def test_the_generator_steps_once_in_so_many_batches(build: Callable[..., Any]) -> None:
    task, state = build(discriminator_steps=3)
    moves: dict[str, list[bool]] = {"generator": [], "discriminator": []}
    for _ in range(6):
        before = {name: snapshot(module) for name, module in state.modules.items()}
        (means,) = train(task, state, 1)
        for name, module in state.modules.items():
            parameters = [key for key, _ in module.named_parameters()]
            moves[name].append(any(not torch.equal(before[name][key], module.state_dict()[key]) for key in parameters))
        assert set(means) == {"loss_generator", "loss_discriminator", "real_accuracy", "fake_accuracy", "noise_std"}
    assert moves == {"generator": [False, False, True] * 2, "discriminator": [True] * 6}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_step_reports(loss: str, build: Callable[..., Any]) -> None:
    """Means of the batch before the discriminator's update; the generator's loss after it."""
    task, state = build(loss=loss, real_label=0.9 if loss in ("bce", "least_squares") else 1.0, dropout=0.0)
    generator, before = (copy.deepcopy(state.modules[name]) for name in ("generator", "discriminator"))
    batch = make_batch(0)
    (means,) = train(task, state, 1)
    torch.manual_seed(100)
    fake = generator(torch.randn(BATCH, 8)).detach()
    real_logits, fake_logits = before(batch.images), before(fake)
    after = state.modules["discriminator"](fake)
    expected = {
        "bce": (
            -(0.9 * F.logsigmoid(real_logits) + 0.1 * F.logsigmoid(-real_logits)).mean()
            - F.logsigmoid(-fake_logits).mean(),
            -F.logsigmoid(after).mean(),
            float(np.log(0.45 / 0.55)),
        ),
        "hinge": ((1 - real_logits).clamp(0).mean() + (1 + fake_logits).clamp(0).mean(), -after.mean(), 0.0),
        "least_squares": (
            ((real_logits - 0.9) ** 2).mean() / 2 + (fake_logits**2).mean() / 2,
            ((after - 1) ** 2).mean() / 2,
            0.45,
        ),
    }.get(
        loss,
        (fake_logits.mean() - real_logits.mean(), -after.mean(), (fake_logits.mean() + real_logits.mean()).item() / 2),
    )
    torch.testing.assert_close(means["loss_discriminator"], expected[0].detach())
    torch.testing.assert_close(means["loss_generator"], expected[1].detach())
    assert float(means["real_accuracy"]) == (real_logits > expected[2]).float().mean()
    assert float(means["fake_accuracy"]) == (fake_logits <= expected[2]).float().mean()
    if loss == "wasserstein_gp":
        penalty = gradient_penalty(before, batch.images, fake)  # random points: only about equal
        assert float(means["gradient_penalty"]) == pytest.approx(penalty.item(), rel=0.05)
    assert not any(value.requires_grad for value in means.values())


def test_clipping_bounds_the_critic(build: Callable[..., Any]) -> None:
    task, state = build(loss="wasserstein", weight_clip=0.003)
    train(task, state, 2)
    weights = torch.cat([parameter.flatten() for parameter in state.modules["discriminator"].parameters()])
    assert weights.abs().max().item() == pytest.approx(0.003)
    assert max(parameter.abs().max() for parameter in state.modules["generator"].parameters()) > 0.003


def test_the_penalty_pulls_the_gradient_to_one(build: Callable[..., Any]) -> None:
    task, state = build(loss="wasserstein_gp", gradient_penalty=100.0, discriminator_learning_rate=1e-3)
    means = train(task, state, 60)
    assert float(means[0]["gradient_penalty"]) > 0.5
    assert float(means[-1]["gradient_penalty"]) < 0.1


def test_the_weight_of_a_share_scales_the_gradient_not_the_reported_loss(build: Callable[..., Any]) -> None:
    """The generator's only about: it is judged by a discriminator that has stepped, by Adam's measure."""
    found = []
    for weight in (1.0, 0.5):
        task, state = build(loss="wasserstein_gp")
        torch.manual_seed(1)
        means = task.train_step(state, make_batch(0, weight=weight))
        gradients = {
            name: torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
            for name, module in state.modules.items()
        }
        found.append((means, gradients))
    (means, whole), (half_means, half) = found
    assert torch.equal(means["loss_discriminator"], half_means["loss_discriminator"])
    torch.testing.assert_close(half["discriminator"], whole["discriminator"] / 2, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(half["generator"], whole["generator"] / 2, rtol=0.01, atol=1e-5)


# what else has to be set so that the field can show; the values
FIELDS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "network": ({}, ["dense", "dcgan"]),
    "latent_size": ({}, [8, 9]),
    "conditional": ({}, [False, True]),
    "batch_norm": ({}, [True, False]),
    "spectral_norm": ({}, [False, True]),
    "dropout": ({}, [0.0, 0.5]),
    "loss": ({}, list(LOSSES)),
    "real_label": ({}, [1.0, 0.9]),
    "weight_clip": ({"loss": "wasserstein"}, [0.01, 0.02]),
    "gradient_penalty": ({"loss": "wasserstein_gp"}, [10.0, 1.0]),
    "discriminator_steps": ({}, [1, 2]),
    "generator_learning_rate": ({}, [2e-4, 3e-4]),
    "discriminator_learning_rate": ({}, [2e-4, 3e-4]),
    "beta1": ({}, [0.5, 0.6]),
    "augmentation": ({}, ["none", "translation", "translation_cutout", "colour_translation_cutout"]),
    "ema_decay": ({}, [None, 0.9, 0.5]),
    "noise.kind": (
        {"noise": {"start": 0.5, "end": 0.1}},
        ["constant", "linear", "cosine", "exponential"],
    ),
    "noise.start": ({}, [0.0, 0.5]),
    "noise.end": ({"noise": {"kind": "linear"}}, [0.0, 0.5]),
    "noise.until": ({"noise": {"kind": "linear", "start": 0.5}}, [1.0, 0.5]),
    "noise.per_step": ({"noise": {"kind": "linear", "start": 0.5}}, [False, True]),
}
OF_EVALUATION = {"num_eval_images", "grace_epochs", "failing_epochs", "min_coverage", "max_accuracy"}


def test_the_table_has_every_field() -> None:
    assert FIELDS.keys() | OF_EVALUATION == set(list_fields(GanConfig()))


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_changes_the_generator(name: str, build: Callable[..., Any]) -> None:
    others, values = FIELDS[name]
    outcomes = []
    for value in [*values, values[0]]:
        changed = {**others, "noise": dict(others.get("noise", {}))}
        owner, _, leaf = name.rpartition(".")
        (changed["noise"] if owner else changed)[leaf] = value
        task, state = build(**changed)
        for epoch in range(1, 3):  # in the first epoch all kinds of noise are equal
            state.epoch, state.step = epoch, 5 * epoch
            train(task, state, 2)
        outcomes.append(snapshot(state.best_modules()["generator"]))
    *outcomes, again = outcomes
    assert is_same(outcomes[0], again)
    for index, first in enumerate(outcomes):
        assert not any(is_same(first, second) for second in outcomes[:index])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent_size": 0}, "task.latent_size must be in 1..1024, got 0"),
        ({"dropout": 0.96}, "task.dropout must be in 0..0.95"),
        ({"real_label": 0.5}, "task.real_label must be above 0.5"),
        ({"discriminator_steps": 0}, "task.discriminator_steps must be in 1..100"),
        ({"weight_clip": 0.0}, "task.weight_clip must be above 0"),
        ({"gradient_penalty": -1.0}, "task.gradient_penalty must be above 0"),
        ({"generator_learning_rate": 0.0}, "task.generator_learning_rate must be above 0"),
        ({"discriminator_learning_rate": float("nan")}, "task.discriminator_learning_rate must be above 0"),
        ({"beta1": 1.0}, "task.beta1 must be in 0..0.999"),
        ({"ema_decay": 1.0}, "task.ema_decay must be in 0..1 or none"),
        ({"num_eval_images": 19}, "task.num_eval_images must be at least 20"),
        ({"grace_epochs": -1}, "task.grace_epochs must be 0 or more"),
        ({"failing_epochs": 0}, "task.failing_epochs must be at least 1"),
        ({"min_coverage": 1.1}, "task.min_coverage must be in 0..1"),
        ({"max_accuracy": 0.5}, "task.max_accuracy must be above 0.5"),
        ({"spectral_norm": True, "loss": "wasserstein"}, "task.spectral_norm must be false with"),
    ],
)
def test_values_outside_their_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GanConfig(**values)


def test_images_have_to_be_in_the_generators_range(
    squares: PreparedData, make_gan_config: Callable[..., TrialConfig]
) -> None:
    values = make_gan_config().to_json()
    values["data"]["normalization"] = "unit"
    with pytest.raises(ValueError, match="normalization of a GAN must be symmetric"):
        build_task(TrialConfig.from_json(values), squares.info)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "exponential"])
def test_the_logged_noise_is_the_formulas(
    kind: str, per_step: bool, squares: PreparedData, make_gan_config: Callable[..., TrialConfig]
) -> None:
    """One value for an epoch, or the mean of its five steps' values."""
    noise = {"kind": kind, "start": 0.3, "end": 0.06, "until": 0.7, "per_step": per_step}
    config = make_gan_config(noise=noise, epochs=3)
    state = fit(config, squares, OBJECTIVE, report=lambda epoch: None)
    assert isinstance(config.task, GanConfig)
    value = config.task.noise.value
    if per_step:
        steps = np.array([value(time_of(step, 15)) for step in range(15)]).reshape(3, 5)
        expected = steps.mean(axis=1).tolist()
    else:
        expected = [value(epoch / 2) for epoch in range(3)]
    assert [row["train/noise_std"] for row in state.history] == pytest.approx(expected, rel=1e-5)


def test_the_noise_that_is_logged_is_what_the_discriminator_sees(build: Callable[..., Any]) -> None:
    task, state = build(noise={"start": 0.25})
    seen: list[torch.Tensor] = []
    state.modules["discriminator"].register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    generator = copy.deepcopy(state.modules["generator"])
    torch.manual_seed(7)
    batch = make_batch(0, num_images=64)
    task.train_step(state, batch)
    torch.manual_seed(7)
    fake = generator(torch.randn(64, 8)).detach()
    noise = [image - shown for image, shown in zip((batch.images, fake, fake), seen, strict=True)]
    for part in noise:
        assert part.std().item() == pytest.approx(0.25, rel=0.02)
    for first, second in ((0, 1), (1, 2), (0, 2)):  # drawn afresh for each
        assert torch.corrcoef(torch.stack([noise[first].flatten(), noise[second].flatten()]))[0, 1].abs() < 0.03


FITTED: list[dict[str, Any]] = [
    {},
    {"network": "dcgan", "dropout": 0.2, "noise": {"kind": "cosine", "start": 0.1}, "ema_decay": 0.9},
    {"loss": "wasserstein_gp", "discriminator_steps": 3, "conditional": True, "augmentation": "translation_cutout"},
    {"network": "dcgan", "loss": "hinge", "spectral_norm": True, "conditional": True, "ema_decay": 0.9},
    {"loss": "wasserstein", "discriminator_steps": 2, "noise": {"kind": "linear", "start": 0.1, "per_step": True}},
    {"loss": "least_squares", "precision": "bf16", "batch_norm": False},
]


class StoppedError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("values", FITTED, ids=str)
def test_one_seed_is_one_run_and_a_resumed_one_goes_on_the_same(
    values: dict[str, Any], tmp_path: Path, squares: PreparedData, make_gan_config: Callable[..., TrialConfig]
) -> None:
    config = make_gan_config(**values)

    def stop(epoch: EpochReport) -> None:
        if epoch.metrics["epoch"] == 2:
            raise StoppedError

    whole = fit(config, squares, OBJECTIVE, report=lambda epoch: None, folder=TrialFolder(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        fit(config, squares, OBJECTIVE, report=stop, folder=TrialFolder(tmp_path / "parts"))
    torch.rand(17)  # another process: other randomness
    parts = fit(
        config, squares, OBJECTIVE, report=lambda epoch: None, folder=TrialFolder(tmp_path / "parts"), resume=True
    )
    assert without_speed(parts) == without_speed(whole)
    for name in ("best/model.safetensors", "last/checkpoint.safetensors"):
        expected, _ = checkpoint.load_tensors(tmp_path / "whole" / name)
        found, _ = checkpoint.load_tensors(tmp_path / "parts" / name)
        assert is_same(expected, found)
    other = fit(make_gan_config(seed=1, **values), squares, OBJECTIVE, report=lambda epoch: None)
    assert without_speed(other) != without_speed(whole)


def test_it_learns(squares: PreparedData, make_gan_config: Callable[..., TrialConfig]) -> None:
    """A conditional one, which cannot leave out a class, in 200 steps."""
    config = make_gan_config(
        conditional=True, epochs=40, generator_learning_rate=1e-3, discriminator_learning_rate=5e-4, failing_epochs=40
    )
    state = fit(config, squares, OBJECTIVE, report=lambda epoch: None)
    assert state.best_value is not None
    assert state.best_value < 0.2 * state.history[0]["val/frechet_distance"]
    assert state.history[state.best_epoch - 1]["val/num_classes_generated"] == 4


def test_evaluation_batch_size_changes_no_metric(
    squares: PreparedData, make_gan_config: Callable[..., TrialConfig]
) -> None:
    rows = [
        fit(
            make_gan_config(epochs=1, conditional=True, eval_batch_size=size),
            squares,
            OBJECTIVE,
            report=lambda epoch: None,
        ).history[0]
        for size in (1, 7, 500)
    ]
    for row in rows[1:]:
        assert row["val/frechet_distance"] == pytest.approx(rows[0]["val/frechet_distance"], rel=1e-4)
        for name in ("val/coverage", "val/density", "val/num_classes_generated"):
            assert row[name] == pytest.approx(rows[0][name], abs=1e-6)


def test_evaluation_compares_each_image_with_one_of_its_own_noise(
    build: Callable[..., Any], squares: PreparedData
) -> None:
    """The same noise at each time, the class of the image, the generator's average where there is one."""
    task, state = build(judged=True, conditional=True, ema_decay=0.5)
    train(task, state, 3)
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []
    average = state.averages["generator"].module
    average.register_forward_pre_hook(lambda module, given: asked.append((given[0].clone(), given[1].clone())))
    for batch_size in (24, 5):
        for batch in iterate_evaluation(squares.val, task.data, batch_size=batch_size, worker=Worker()):
            task.eval_step(state, batch)
    noise, labels = asked[0]
    assert torch.equal(labels, torch.from_numpy(squares.val.labels))
    assert len(noise.unique(dim=0)) == 24
    assert torch.equal(torch.cat([part for part, _ in asked[1:]]), noise)
    assert torch.equal(torch.cat([part for _, part in asked[1:]]), labels)
    assert abs(noise.mean().item()) < 0.2
    assert noise.std().item() == pytest.approx(1, abs=0.2)


def test_real_images_against_themselves_are_perfect(build: Callable[..., Any], squares: PreparedData) -> None:
    """A generator that gives back the images: distance 0, full coverage, every class."""
    task, state = build(judged=True)
    (batch,) = iterate_evaluation(squares.val, task.data, batch_size=24, worker=Worker())

    class Copy(nn.Module):
        def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return batch.images

    state.modules["generator"] = Copy()
    found = task.evaluate(state, [batch])
    assert found["val/frechet_distance"] == pytest.approx(0, abs=1e-3)
    assert found["val/coverage"] == 1
    assert found["val/num_classes_generated"] == 4


def test_samples_are_of_fixed_noise(build: Callable[..., Any]) -> None:
    task, state = build(network="dcgan", conditional=True, ema_decay=0.5)
    train(task, state, 2)
    first, second = task.sample(state), task.sample(state)
    assert first.shape == (16, 28, 28, 1)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first.reshape(16, -1), axis=0)) == 16
    train(task, state, 1)
    assert (task.sample(state) != first).any()


def test_generated_images_are_in_the_unit_range(build: Callable[..., Any]) -> None:
    task, state = build(conditional=True)
    noise, labels = torch.randn(5, 8), torch.arange(5) % 4
    images = task.generate(state.modules["generator"], noise, labels)
    assert images.shape == (5, 1, 28, 28)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    torch.testing.assert_close(images * 2 - 1, state.modules["generator"].eval()(noise, labels))
    torch.testing.assert_close(unit_range(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("loss", LOSSES)
def test_bf16_leaves_weights_and_losses_in_fp32(loss: str, build: Callable[..., Any]) -> None:
    task, state = build(network="dcgan", loss=loss, precision="bf16", noise={"start": 0.1})
    for means in train(task, state, 2):
        assert all(value.dtype == torch.float32 and value.isfinite() for value in means.values())
    for module in state.modules.values():
        assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
