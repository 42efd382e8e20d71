"""Mixup and CutMix: pixels and labels are mixed by the same shares; the loss is that of soft labels."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from raysweep.catalogue import load_study
from raysweep.config import AugmentationConfig
from raysweep.data.batches import Batch, Worker
from raysweep.data.images import DataInfo
from raysweep.data.mixing import Mixing, apply_mixing, draw_mixing
from raysweep.errors import UsageError
from raysweep.study import Study
from raysweep.train.task import build_task

LABELS = torch.arange(64)


def plain(count: int = 64, side: int = 16) -> torch.Tensor:
    """Images of one value each: their number."""
    return torch.arange(count).float()[:, None, None, None].expand(count, 3, side, side).contiguous()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config(**options: float) -> AugmentationConfig:
    return AugmentationConfig(**{"strength": 1.0, **options})


def mix(
    images: torch.Tensor, labels: torch.Tensor, config: AugmentationConfig, generator: torch.Generator
) -> tuple[torch.Tensor, Mixing]:
    drawn = draw_mixing(len(images), images.shape[-1], config, generator)
    return apply_mixing(images, labels, drawn.to(images.device), config)


@settings(deadline=None, max_examples=60)
@given(mixup=st.floats(0, 10), cutmix=st.floats(0, 10), strength=st.floats(0.01, 1), seed=st.integers(0, 2**32))
def test_pixels_have_the_shares_of_labels(mixup: float, cutmix: float, strength: float, seed: int) -> None:
    options = config(mixup=mixup, cutmix=cutmix, strength=strength)
    mixed, mixing = mix(plain(), LABELS, options, generator(seed))
    assert mixing.labels.tolist() == LABELS.roll(1).tolist()
    assert mixing.shares.min() >= 0
    assert mixing.shares.max() <= 1
    expected = LABELS * mixing.shares + mixing.labels * (1 - mixing.shares)
    torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_draws_from_the_beta_distribution(alpha: float) -> None:
    shares = draw_mixing(20_000, 16, config(mixup=alpha), generator())[:, 0].double()
    assert shares.mean().item() == pytest.approx(0.5, abs=0.01)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_cutmix_pastes_a_window_of_the_other_image() -> None:
    mixed, mixing = mix(plain(), LABELS, config(cutmix=1.0), generator())
    for image, own, other, share in zip(mixed, LABELS, mixing.labels, mixing.shares, strict=True):
        assert set(image.unique().tolist()) <= {float(own), float(other)}
        assert (image == own).float().mean().item() == pytest.approx(share.item(), abs=1e-6)


def test_with_both_an_image_has_either() -> None:
    mixed, _ = mix(plain(), LABELS, config(mixup=1.0, cutmix=1.0), generator())
    blended = sum(len(image.unique()) == 1 and image[0, 0, 0] % 1 != 0 for image in mixed)
    pasted = sum(len(image.unique()) == 2 for image in mixed)
    assert 16 < blended < 48
    assert 16 < pasted < 48


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_the_strength_is_the_probability(options: dict[str, float]) -> None:
    shares = draw_mixing(5000, 32, config(**options, strength=0.2), generator())[:, 0]
    assert (shares < 1).float().mean().item() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_mixing_is_decided_by_the_generator(options: dict[str, float]) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first, _ = mix(plain(), LABELS, config(**options), generator())
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(first, mix(plain(), LABELS, config(**options), generator())[0])
    assert not torch.equal(first, mix(plain(), LABELS, config(**options), generator(1))[0])


def test_a_batch_of_one_stays_as_it_is() -> None:
    image = plain(2)[1:]
    for options in ({"mixup": 1.0}, {"cutmix": 1.0}):
        torch.testing.assert_close(mix(image, LABELS[1:2], config(**options), generator())[0], image)


def test_shares_need_no_value_from_the_device() -> None:
    images = torch.empty(8, 3, 16, 16, device="meta")
    mixed, mixing = mix(images, LABELS[:8].to("meta"), config(mixup=1.0, cutmix=1.0), generator())
    assert mixed.shape == images.shape
    assert mixing.shares.is_meta
    assert mixing.labels.is_meta


def test_off_unless_asked_for() -> None:
    assert not AugmentationConfig(strength=1.0).mixes
    assert not AugmentationConfig(mixup=1.0, cutmix=1.0).mixes
    assert config(mixup=1.0).mixes
    assert config(cutmix=1.0).mixes
    with pytest.raises(ValueError, match=r"augmentation.mixup must be in 0..10, got -1"):
        config(mixup=-1)


def test_the_loss_is_that_of_soft_labels(make_study: Callable[..., Study]) -> None:
    study = make_study().with_settings(["task.label_smoothing=0.2", "task.batch_norm=false", "task.dropout=0"])
    info = DataInfo(
        source="", synthetic=True, digest="", classes=tuple("abcd"), num_train=8, num_val=8, num_test=0
    )  # fmt: skip
    task = build_task(study.trial_config({}, 0), info)
    state = task.init_state(Worker(), lambda module: module)
    images, labels = torch.rand(8, 3, 32, 32, generator=generator()), LABELS[:8] % 4
    mixed, mixing = mix(images, labels, config(mixup=1.0), generator())
    loss = task.compute_loss(state, Batch(mixed, labels, np.arange(8), mixing=mixing))["loss"]
    soft = F.one_hot(labels, 4) * mixing.shares[:, None] + F.one_hot(mixing.labels, 4) * (1 - mixing.shares[:, None])
    logits = task.forward(state.modules["model"], mixed).float()
    torch.testing.assert_close(loss, F.cross_entropy(logits, soft, label_smoothing=0.2))


@pytest.mark.parametrize("name", ["mnist_dcgan", "fashion_autoencoder"])
def test_a_task_without_labels_refuses_mixing(name: str) -> None:
    study = load_study(name)
    rule = f"data.augmentation.mixup must be 0 in a study of {study.task.kind}, whose loss takes no mixed labels"
    with pytest.raises(UsageError, match=rule):
        study.with_settings(["data.augmentation.mixup=0.2"])
    with pytest.raises(UsageError, match=rule):
        replace(study, space={"data.augmentation.mixup": FloatDistribution(0.0, 1.0)})
    trial = study.trial_config(study.baseline, 0)
    with pytest.raises(ValueError, match=rule):
        replace(trial, data=replace(trial.data, augmentation=config(mixup=0.2)))


def test_a_study_searches_where_its_task_takes_mixed_labels(make_study: Callable[..., Study]) -> None:
    study = make_study(space={"data.augmentation.cutmix": FloatDistribution(0.0, 1.0)}, conditions=())
    assert study.trial_config({"data.augmentation.cutmix": 0.5}, 1).data.augmentation.cutmix == 0.5
