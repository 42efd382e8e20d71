"""The autoencoder task: its networks, losses against their formulas, and that every variant learns and resumes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal, kl_divergence

from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.data.batches import Batch, Worker
from raysweep.data.idx import find_idx_file, load_idx
from raysweep.data.images import DataInfo, PreparedData
from raysweep.run_folder import TrialFolder
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.autoencoder.networks import Autoencoder, kl_to_standard_normal
from raysweep.tasks.autoencoder.task import AutoencoderTask, count_active_units, pixel_entropy
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.metrics import add_up
from raysweep.train.state import TrainState
from raysweep.train.task import build_task, draw_fixed_noise
from raysweep.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("one_thread")
INFO = DataInfo(
    source="noise", synthetic=True, digest="0" * 64, classes=("a", "b"), num_train=16, num_val=8, num_test=0
)
OBJECTIVE = Objective(metric="val/mse", direction="minimize")
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "denoising": {"variant": "denoising", "bottleneck": "dense", "latent_size": 6},
    "variational": {"variant": "variational", "bottleneck": "dense", "latent_size": 4, "beta": 0.1},
}


def make_config(epochs: int = 3, **task: Any) -> TrialConfig:
    return TrialConfig(
        task=AutoencoderConfig(**task),
        data=DataConfig(image_size=28, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=epochs, batch_size=8, precision="fp32", checkpoint_period_s=0.0),
    )


def build(**task: Any) -> tuple[AutoencoderTask, TrainState]:
    torch.manual_seed(0)
    built = build_task(make_config(**task), INFO)
    assert isinstance(built, AutoencoderTask)
    return built, built.init_state(Worker(), lambda module: module)


def draw_batch(num_images: int = 8, binary: bool = False) -> Batch:
    images = torch.rand(num_images, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    images = images.round() if binary else images
    return Batch(images, torch.zeros(num_images, dtype=torch.int64), np.arange(num_images))


def test_the_default_is_the_reports_network() -> None:
    task, _ = build()
    model = task.load_modules()["model"]
    assert isinstance(model, Autoencoder)
    assert (model.code_shape, model.code_size) == ((8, 4, 4), 128)
    # Weights and biases: 1-32-16-8, then 8-8-16-32-1, all 3x3.
    channels = [(1, 32), (32, 16), (16, 8), (8, 8), (8, 16), (16, 32), (32, 1)]
    assert sum(p.numel() for p in model.parameters()) == sum(9 * i * o + o for i, o in channels)


@pytest.mark.parametrize("size", [28, 32, 20])
@pytest.mark.parametrize("bottleneck", ["spatial", "dense"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_reconstructions_have_the_shape_of_images(size: int, bottleneck: Any, batch_norm: bool) -> None:
    model = build_model(image_size=size, bottleneck=bottleneck, batch_norm=batch_norm)
    images = torch.rand(2, 3, size, size)
    logits, mean, log_variance = model(images, torch.zeros(2, model.code_size))
    assert logits.shape == images.shape
    assert mean.shape == log_variance.shape == (2, model.code_size)


def build_model(**values: Any) -> Autoencoder:
    defaults: dict[str, Any] = {
        "channels": 3,
        "image_size": 28,
        "bottleneck": "dense",
        "latent_size": 5,
        "width": 0.5,
        "dropout": 0.1,
        "batch_norm": False,
        "variational": True,
    }
    return Autoencoder(**{**defaults, **values})


def test_batch_norm_follows_every_convolution_but_the_last() -> None:
    modules = [type(module).__name__ for module in build_model(batch_norm=True).modules()]
    following = [modules[place + 1] for place, kind in enumerate(modules[:-1]) if kind == "Conv2d"]
    assert following == 6 * ["BatchNorm2d"]
    assert modules[-1] == "Conv2d"


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4, got 30"):
        build_model(image_size=30)
    config = make_config()
    symmetric = DataConfig(image_size=28, channels=1, normalization="symmetric")
    with pytest.raises(ValueError, match="normalization of an autoencoder must be unit"):
        build_task(TrialConfig(task=config.task, data=symmetric, training=config.training), INFO)


@pytest.mark.parametrize(("loss", "formula"), [("bce", F.binary_cross_entropy), ("mse", F.mse_loss)])
def test_the_loss_is_the_mean_over_pixels_and_images(loss: str, formula: Callable[..., torch.Tensor]) -> None:
    task, state = build(loss=loss)
    batch = draw_batch()
    with torch.no_grad():
        expected = formula(state.modules["model"](batch.images)[0].sigmoid(), batch.images)
    assert task.train_step(state, batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_negative_elbo_is_that_of_torch_distributions_on_binarised_mnist(data_root: Path) -> None:
    """Of a model that has been trained a little: its posterior is not the prior."""
    path = find_idx_file(data_root / "mnist", "train-images-idx3-ubyte")
    assert path is not None
    images = torch.from_numpy(load_idx(path)[:64].copy()).float().div(255).round()[:, None]
    task, state = build(variant="variational", bottleneck="dense", latent_size=4, learning_rate=3e-3)
    batch = Batch(images, torch.zeros(64, dtype=torch.int64), np.arange(64))
    for _ in range(30):
        task.train_step(state, batch)
        state.end_step()
    check_negative_elbo(task, state, batch)


def test_the_negative_elbo_is_that_of_torch_distributions_on_binary_noise() -> None:
    task, state = build(variant="variational", bottleneck="dense", latent_size=4)
    check_negative_elbo(task, state, draw_batch(binary=True))


def check_negative_elbo(task: AutoencoderTask, state: TrainState, batch: Batch) -> None:
    """Computes the ELBO from torch's own distributions and compares."""
    metrics = task.evaluate(state, [batch])
    model = state.modules["model"].eval()
    assert isinstance(model, Autoencoder)
    with torch.no_grad():
        mean, log_variance = model.encode(batch.images)
        assert log_variance is not None
        posterior = Normal(mean, log_variance.exp().sqrt())
        code = mean + posterior.scale * draw_fixed_noise(batch.indices, 4)
        log_likelihood = Bernoulli(logits=model.decode(code)).log_prob(batch.images).sum(dim=(1, 2, 3))
        kl = kl_divergence(posterior, Normal(torch.zeros(4), torch.ones(4))).sum(dim=1)
    assert metrics["val/kl"] == pytest.approx(kl.mean().item(), rel=1e-4)
    assert metrics["val/negative_elbo"] == pytest.approx((kl - log_likelihood).mean().item(), rel=1e-5)
    assert torch.allclose(kl_to_standard_normal(mean, log_variance), kl, atol=1e-5)


def test_a_kl_weight_of_zero_at_first_rises_to_beta() -> None:
    task, state = build(variant="variational", beta=2.0, kl_warmup_epochs=2.0)
    steps = 2 * task.steps_per_epoch
    for step, beta in ((0, 0.0), (steps // 2, 1.0), (steps, 2.0), (5 * steps, 2.0)):
        state.step = step
        assert task.get_step_value(state, "beta", torch.device("cpu")) == beta


def test_the_floor_of_the_cross_entropy_is_the_pixels_entropy() -> None:
    assert pixel_entropy(torch.tensor([[0.0, 1.0], [0.5, 0.5]])).tolist() == pytest.approx([0.0, math.log(2)])
    task, state = build()
    metrics = task.evaluate(state, [draw_batch()])
    floor = float(pixel_entropy(draw_batch().images).mean())
    assert metrics["val/excess_bce"] == pytest.approx(metrics["val/bce"] - floor, abs=1e-6)
    assert metrics["val/excess_bce"] > 0


def test_active_units_are_those_whose_mean_moves_in_any_order_of_batches() -> None:
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(50, 3, generator=draw) * torch.tensor([1.0, 0.01, 0.5])
    parts = means.double().split(7)
    sums = add_up(
        {
            "num_images": torch.tensor(len(part)),
            "codes": part.sum(dim=0),
            "squared_codes": part.square().sum(dim=0),
        }
        for part in parts
    )
    assert int(count_active_units(sums)) == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_and_goes_on_from_its_checkpoint(
    variant: str, tmp_path: Path, save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any]
) -> None:
    data = save_prepared(tmp_path / "data", {"train": draw_squares(64, 1), "val": draw_squares(16, 2)}, "abcd")
    task = {**VARIANTS[variant], "learning_rate": 5e-3}
    whole = fit(
        make_config(4, **task), data, OBJECTIVE, report=lambda report: None, folder=TrialFolder(tmp_path / "whole")
    )
    assert whole.history[-1]["train/loss"] < whole.history[0]["train/loss"]

    class Killed(Exception):  # noqa: N818 - what a kill after the second epoch leaves
        pass

    def stop(report: Any) -> None:
        if report.metrics["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(make_config(4, **task), data, OBJECTIVE, report=stop, folder=TrialFolder(tmp_path / "part"))
    again = fit(
        make_config(4, **task),
        data,
        OBJECTIVE,
        report=lambda report: None,
        folder=TrialFolder(tmp_path / "part"),
        resume=True,
    )
    assert [{k: v for k, v in row.items() if k not in OF_MACHINES} for row in again.history] == [
        {k: v for k, v in row.items() if k not in OF_MACHINES} for row in whole.history
    ]
    assert (tmp_path / "whole" / "samples" / "epoch_0004.png").is_file() == (variant == "variational")
