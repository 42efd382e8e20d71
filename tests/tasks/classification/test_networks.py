"""Classifiers: shapes of the two reports' networks, any timm model, and names that there are not."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from raysweep.errors import UsageError
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.networks import Classifier, Residual, build_classifier, set_batch_norm_frozen
from raysweep.tasks.classification.timm_models import list_timm_models


def build(model: str, **values: Any) -> Classifier:
    defaults: dict[str, Any] = {
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


def test_fashion_cnn_with_residual_blocks_and_another_width() -> None:
    """Seven convolutions, the blocks around their input, and one dense layer; under a million parameters."""
    args = {"width": 46, "residual": True}
    model = build("fashion_cnn", channels=1, image_size=28, batch_norm=True, model_args=args)
    shapes = [tuple(parameter.shape) for parameter in model.parameters() if parameter.dim() > 1]
    assert [shape[:2] for shape in shapes] == [
        (46, 1),
        (92, 46),
        *2 * [(92, 92)],
        (184, 92),
        *2 * [(184, 184)],
        (10, 184),
    ]
    assert 9e5 < sum(parameter.numel() for parameter in model.parameters()) < 1e6
    block = next(module for module in model.modules() if isinstance(module, Residual))
    images = torch.rand(2, 92, 4, 4)
    assert torch.equal(block.eval()(images), images + block.layers(images))


@pytest.mark.parametrize("image_size", [8, 30, 33])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_fashion_cnn_at_other_sizes(image_size: int, channels: int, residual: bool) -> None:
    args = {"residual": residual}
    model = build("fashion_cnn", channels=channels, image_size=image_size, num_classes=4, model_args=args)
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


def check_available(model: str) -> None:
    ClassificationConfig(model=model).check_available()


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
    with pytest.raises(UsageError, match=f"unknown model '{name}'; did you mean '{close}'.*fashion_cnn"):
        check_available(name)
    with pytest.raises(UsageError, match=f"unknown model '{name}'"):
        build(name)


def test_nothing_close_is_not_an_error_of_its_own() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'xyz'\. Known: fashion_cnn"):
        check_available("xyz")


def test_known_models_pass() -> None:
    check_available("fashion_cnn")
    check_available("resnet18")


def test_arguments_that_a_network_does_not_take_are_told_with_the_way_on() -> None:
    with pytest.raises(UsageError, match=r"test_resnet cannot be built .*'residual'.*--set 'task.model_args=\{\}'"):
        build("test_resnet", model_args={"residual": True})
