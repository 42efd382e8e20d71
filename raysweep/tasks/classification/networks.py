"""Image classifiers: a backbone that gives features and a head that gives logits.

timm, and torchvision with it, is imported where a timm model is built or looked for: it takes seconds.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raysweep import own_code
from raysweep.errors import RaysweepError, UsageError
from raysweep.tasks.classification.config import FASHION_CNN, HeadName
from raysweep.tasks.classification.fitting import fit_weights
from raysweep.tasks.classification.timm_models import check_name

IMAGENET_CLASSES = 1000


class Classifier(nn.Module):
    """Maps images (B, C, H, W) to logits (B, num_classes)."""

    def __init__(self, backbone: nn.Module, head: nn.Module, last: nn.Linear | None = None) -> None:
        """Joins a backbone that gives features and a head.

        last: the layer that gives the logits, inside a backbone that has its own head; none: that of `head`.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._last = [] if last is None else [last]  # in a list: it is a submodule already

    @property
    def last_linear(self) -> nn.Linear:
        """Returns the layer that gives the logits."""
        return (self._last or [layer for layer in self.head.modules() if isinstance(layer, nn.Linear)])[-1]

    def split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Splits the parameters into those of the backbone and those of the head."""
        head = [*self.head.parameters()] or [*self.last_linear.parameters()]
        own = {id(parameter) for parameter in head}
        return [parameter for parameter in self.parameters() if id(parameter) not in own], head

    def list_stages(self) -> list[list[nn.Parameter]]:
        """Lists the parameters of the backbone by stages, from the images on: as timm groups them, else by modules."""
        backbone, known = dict(self.backbone.named_parameters()), {id(weight) for weight in self.split_parameters()[0]}
        if hasattr(self.backbone, "group_matcher"):
            from timm.models import group_parameters

            grouped = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True), reverse=True)  # type: ignore[operator]
            names: list[list[str]] = [[] for _ in range(max(grouped.values()) + 1)]
            for name, stage in grouped.items():
                names[stage].append(name)
        else:
            tops = dict.fromkeys(name.partition(".")[0] for name in backbone)
            names = [[name for name in backbone if name.partition(".")[0] == top] for top in tops]
        stages = [[backbone[name] for name in stage if id(backbone[name]) in known] for stage in names]
        return [stage for stage in stages if stage]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes logits (B, num_classes) of normalised images (B, C, H, W)."""
        logits: torch.Tensor = self.head(self.backbone(images))
        return logits


def build_classifier(
    model: str,
    *,
    head: HeadName,
    dropout: float,
    batch_norm: bool,
    num_classes: int,
    channels: int,
    image_size: int,
    model_args: Mapping[str, Any] | None = None,
) -> Classifier:
    """Builds `fashion_cnn`, a timm model under a `linear` head or the car report's (1000-16-64-classes), or one's own.

    `batch_norm` is of `fashion_cnn` only: timm models have their own layers. Networks of one's own have their head.

    Raises:
        UsageError: timm knows no such model, or a network cannot be built with these arguments.
    """
    model_args = model_args or {}
    if own_code.is_reference(model):
        return _build_own(model, model_args, num_classes, channels)
    if model == FASHION_CNN:
        return build_fashion_cnn(
            dropout=dropout,
            batch_norm=batch_norm,
            num_classes=num_classes,
            channels=channels,
            image_size=image_size,
            **model_args,
        )
    backbone = _build_backbone(model, model_args, channels, num_classes=IMAGENET_CLASSES if head == "report" else 0)
    if head == "report":
        layers = [nn.Linear(IMAGENET_CLASSES, 16), nn.Linear(16, 64), nn.Linear(64, num_classes)]
    else:
        layers = [nn.Linear(_count_features(backbone), num_classes)]
    return Classifier(backbone, nn.Sequential(nn.Dropout(dropout), *layers))


def build_fashion_cnn(
    *,
    dropout: float,
    batch_norm: bool,
    num_classes: int,
    channels: int,
    image_size: int,
    width: int = 32,
    residual: bool = False,
) -> Classifier:
    """Builds the Fashion-MNIST report's kind of CNN: conv + pool blocks, dropout, a dense layer of 128.

    `dropout` is the dense layer's; the convolutions have half of it. `batch_norm` follows each of them. `width` is the
    channels of the first one; the second has twice, the third four times as many. With `residual` a residual block of
    two convolutions follows the second and the third, and the maximum over all places takes the dense layer's place.
    """

    def convolution(num_inputs: int, num_outputs: int) -> list[nn.Module]:
        layer = nn.Conv2d(num_inputs, num_outputs, 3, padding=1, bias=not batch_norm)
        return [layer, *([nn.BatchNorm2d(num_outputs)] if batch_norm else []), nn.ReLU()]

    def block(num_inputs: int, num_outputs: int) -> list[nn.Module]:
        layers = convolution(num_inputs, num_outputs)
        if residual:
            around = [*convolution(num_outputs, num_outputs), *convolution(num_outputs, num_outputs)]
            layers.append(Residual(nn.Sequential(*around)))
        return layers

    side = image_size // 4
    backbone = nn.Sequential(
        *convolution(channels, width),
        nn.MaxPool2d(2),
        *block(width, 2 * width),
        nn.MaxPool2d(2),
        nn.Dropout(dropout / 2),
        *block(2 * width, 4 * width),
        *([nn.MaxPool2d(side)] if residual else []),
        nn.Dropout(dropout / 2),
        nn.Flatten(),
    )
    if residual:
        return Classifier(backbone, nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, num_classes)))
    dense = nn.Linear(4 * width * side * side, 128)
    return Classifier(backbone, nn.Sequential(dense, nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, num_classes)))


class Residual(nn.Module):
    """Adds what `layers` make of their input to it."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        result: torch.Tensor = inputs + self.layers(inputs)
        return result


def set_batch_norm_frozen(model: nn.Module) -> None:
    """Keeps the statistics and the scale of all batch-norm layers of a model in training mode as they are."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(False)


def _count_features(backbone: nn.Module) -> int:
    """Finds how many features a timm model without its classifier gives: some have a dense layer after the pooling."""
    features: int = getattr(backbone, "head_hidden_size", None) or backbone.num_features  # type: ignore[assignment]
    return features


def load_backbone(
    model: Classifier, given: Mapping[str, torch.Tensor], *, is_timm: bool, channels: int, origin: str
) -> None:
    """Loads pretrained weights into a classifier, all but the head that is made for its classes.

    is_timm: whether timm published them for this network: then what the backbone does not have is of timm's head.

    Raises:
        UsageError: they do not fit.
    """
    backbone = model.backbone
    published = getattr(backbone, "pretrained_cfg", None) or {}
    heads = published.get("classifier") or ()
    classifiers = [heads] if isinstance(heads, str) else [*heads]
    classifiers += [name for name, module in backbone.named_modules() if module is model.last_linear]
    if is_timm:
        given = {name: value for name, value in given.items() if name in backbone.state_dict()}
    fit_weights(backbone, given, classifiers=classifiers, channels=channels, origin=origin)


def _build_backbone(model: str, model_args: Mapping[str, Any], channels: int, num_classes: int) -> nn.Module:
    import timm

    check_name(model)
    try:
        backbone: nn.Module = timm.create_model(model, in_chans=channels, num_classes=num_classes, **model_args)
    except Exception as error:
        if not model_args:
            raise
        raise UsageError(
            f"{model} cannot be built with task.model_args={dict(model_args)}: {type(error).__name__}: {error}; "
            "--set 'task.model_args={}' gives it none"
        ) from error
    return backbone


def _build_own(model: str, model_args: Mapping[str, Any], num_classes: int, channels: int) -> Classifier:
    arguments = {"num_classes": num_classes, "in_channels": channels, **model_args}
    builder = own_code.load_callable(model, "task.model", **arguments)
    try:
        network = builder(**arguments)
    except RaysweepError:
        raise
    except Exception as error:
        raise UsageError(f"task.model={model} failed for {arguments}: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"task.model={model} must give an nn.Module, got a {type(network).__name__}")
    found = [layer for layer in network.modules() if isinstance(layer, nn.Linear) and layer.out_features == num_classes]
    if not found:
        raise UsageError(
            f"task.model={model} must end in an nn.Linear with {num_classes} outputs, one for each class: what its "
            "learning rate and the rejection of foreign images are set by; it has none"
        )
    return Classifier(network, nn.Identity(), found[-1])
