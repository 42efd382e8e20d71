"""Classifiers: shapes of the two reports' networks, any timm model, and names or weights that cannot be had."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from raysweep.errors import UsageError
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.networks import Classifier, build_classifier, set_batch_norm_frozen
from raysweep.tasks.classification.timm_models import list_timm_models


def build(model: str, **values: Any) -> Classifier:
    defaults: dict[str, Any] = {
        "pretrained": False,
        "head": "linear",
        "dropout": 0.25,
        "batch_norm": False,
        "num_classes": 10,
        "channels": 3,
        "image_size": 32,
    }
    return build_classifier(model, **{**defaults, **values})


def test_fashion_cnn_is_the_reports_network() -> None:
    """Convolutions of 32, 64 and 128 at 28 x 28, 14 x 14 and 7 x 7, a dense layer of 128, 10 classes."""
    model = build("fashion_cnn", channels=1, image_size=28, dropout=0.5)
    assert [tuple(parameter.shape) for parameter in model.parameters()] == [
        (32, 1, 3, 3),
        (32,),
        (64, 32, 3, 3),
        (64,),
        (128, 64, 3, 3),
        (128,),
        (128, 128 * 7 * 7),
        (128,),
        (10, 128),
        (10,),
    ]
    kinds = [type(module).__name__ for module in (*model.backbone.children(), *model.head.children())]
    assert " ".join(kinds) == (
        "Conv2d ReLU MaxPool2d Conv2d ReLU MaxPool2d Dropout Conv2d ReLU Dropout Flatten Linear ReLU Dropout Linear"
    )
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.25, 0.25, 0.5]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_fashion_cnn_with_batch_norm_has_it_after_every_convolution() -> None:
    kinds = [type(module).__name__ for module in build("fashion_cnn", batch_norm=True).backbone.children()]
    assert [kinds[place + 1] for place, kind in enumerate(kinds) if kind == "Conv2d"] == 3 * ["BatchNorm2d"]


@pytest.mark.parametrize("image_size", [8, 30, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_fashion_cnn_at_other_sizes(image_size: int, channels: int) -> None:
    model = build("fashion_cnn", channels=channels, image_size=image_size, num_classes=4)
    assert model(torch.zeros(2, channels, image_size, image_size)).shape == (2, 4)


def test_the_report_head_is_1000_16_64_classes() -> None:
    model = build("test_resnet", head="report", num_classes=5, dropout=0.3)
    assert isinstance(model.head, nn.Sequential)
    layers = [(layer.in_features, layer.out_features) for layer in model.head if isinstance(layer, nn.Linear)]
    assert layers == [(1000, 16), (16, 64), (64, 5)]
    assert [layer.p for layer in model.head if isinstance(layer, nn.Dropout)] == [0.3]
    assert model.backbone(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


# mobilenetv3, lcnet and vgg have a dense layer between the pooling and the classifier
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv3_small_050", "lcnet_035"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_linear_head_fits_the_features(name: str, channels: int) -> None:
    model = build(name, channels=channels, num_classes=7)
    assert isinstance(model.head, nn.Sequential)
    (layer,) = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    assert layer.out_features == 7
    assert model(torch.zeros(2, channels, 32, 32)).shape == (2, 7)


def test_dropout_is_off_in_evaluation() -> None:
    model = build("test_resnet", dropout=0.9).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))


def test_frozen_batch_norm_in_training_mode() -> None:
    model = build("test_resnet").train()
    set_batch_norm_frozen(model)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    others = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert norms
    assert not any(module.training or module.weight.requires_grad or module.bias.requires_grad for module in norms)
    assert all(module.training and module.weight.requires_grad for module in others)


def check_available(model: str, *, pretrained: bool) -> None:
    ClassificationConfig(model=model, pretrained=pretrained).check_available()


def test_the_names_are_those_of_timm() -> None:
    names, old_names = list_timm_models()
    assert names == set(timm.list_models())
    assert all(timm.is_model(name) for name in old_names)
    assert names | old_names >= set(timm.models._registry._model_entrypoints)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("resnet81", "resnet18"),
        ("rsenet18", "resnet18"),
        ("ResNet18", "resnet18"),
        ("fashon_cnn", "fashion_cnn"),
        ("mobilenet_v3_small_050", "mobilenetv3_small_050"),
    ],
)
def test_an_unknown_model_names_close_ones(name: str, close: str) -> None:
    for fail in (lambda: check_available(name, pretrained=False), lambda: check_available(name, pretrained=True)):
        with pytest.raises(UsageError, match=f"unknown model '{name}'; did you mean '{close}'.*fashion_cnn"):
            fail()
    with pytest.raises(UsageError, match=f"unknown model '{name}'"):
        build(name)


def test_nothing_close_is_not_an_error_of_its_own() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'xyz'\. Known: fashion_cnn"):
        check_available("xyz", pretrained=False)


def test_known_models_pass() -> None:
    check_available("fashion_cnn", pretrained=False)
    check_available("resnet18", pretrained=False)


def test_fashion_cnn_has_no_pretrained_weights() -> None:
    with pytest.raises(UsageError, match=r"task\.pretrained=false"):
        check_available("fashion_cnn", pretrained=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def store_weights(hub: Path, model: str) -> dict[str, torch.Tensor]:
    """Puts weights of `model` into the cache as a download leaves them."""
    torch.manual_seed(5)
    weights = timm.create_model(model).state_dict()
    published = timm.get_pretrained_cfg(model)
    assert published is not None
    assert published.hf_hub_id is not None
    repository = published.hf_hub_id.replace("/", "--")
    folder = hub / f"models--{repository}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(weights, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    return weights


def test_pretrained_weights_come_from_the_cache(hub: Path) -> None:
    weights = store_weights(hub, "test_resnet")
    check_available("test_resnet", pretrained=True)
    torch.manual_seed(0)
    model = build("test_resnet", pretrained=True)
    backbone = model.backbone.state_dict()
    assert backbone.keys() == weights.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, weights[name]) for name, value in backbone.items())
    fresh = build("test_resnet").backbone.state_dict()
    assert not torch.equal(fresh["conv1.0.weight"], weights["conv1.0.weight"])


def test_pretrained_weights_of_the_report_head_and_one_channel(hub: Path) -> None:
    weights = store_weights(hub, "test_resnet")
    backbone = build("test_resnet", pretrained=True, head="report", channels=1).backbone.state_dict()
    assert torch.equal(backbone["fc.weight"], weights["fc.weight"])
    torch.testing.assert_close(backbone["conv1.0.weight"], weights["conv1.0.weight"].sum(1, keepdim=True))


@pytest.mark.usefixtures("hub")
def test_weights_that_cannot_be_had() -> None:
    for fail in (
        lambda: check_available("resnet10t", pretrained=True),
        lambda: build("resnet10t", pretrained=True),
    ):
        with pytest.raises(
            UsageError, match=r"pretrained weights of resnet10t cannot be had: .*\n.*task.pretrained=false"
        ):
            fail()


@pytest.mark.usefixtures("hub")
def test_a_model_that_was_never_pretrained() -> None:
    with pytest.raises(
        UsageError, match="pretrained weights of cspresnet50d cannot be had: No pretrained weights exist"
    ):
        check_available("cspresnet50d", pretrained=True)


def test_without_a_connection_the_answer_comes_in_seconds(tmp_path: Path) -> None:
    """The hub's client by itself tries again for most of a minute. Port 9 of this machine refuses connections."""
    code = """
import time
from raysweep.errors import UsageError
from raysweep.tasks.classification.config import ClassificationConfig
began = time.perf_counter()
try:
    ClassificationConfig(model="resnet10t", pretrained=True).check_available()
except UsageError as error:
    print("UsageError" if "resnet10t cannot be had" in str(error) else error, time.perf_counter() - began)
"""
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    kind, duration_s = done.stdout.split()
    assert kind == "UsageError"
    assert float(duration_s) < 10
