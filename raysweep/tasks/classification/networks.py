"""Image classifiers: a backbone that gives features and a head that gives logits.

timm, and torchvision with it, is imported where a timm model is built or looked for: it takes seconds.
"""

import contextlib

import torch
from torch import nn

from raysweep.errors import UsageError
from raysweep.tasks.classification.config import FASHION_CNN, HeadName
from raysweep.tasks.classification.timm_models import check_name

IMAGENET_CLASSES = 1000


class Classifier(nn.Module):
    """Maps images (B, C, H, W) to logits (B, num_classes)."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes logits (B, num_classes) of normalised images (B, C, H, W)."""
        logits: torch.Tensor = self.head(self.backbone(images))
        return logits


def build_classifier(
    model: str,
    *,
    pretrained: bool,
    head: HeadName,
    dropout: float,
    batch_norm: bool,
    num_classes: int,
    channels: int,
    image_size: int,
) -> Classifier:
    """Builds `fashion_cnn`, or any timm model under a `linear` head or the car report's (1000-16-64-classes).

    `batch_norm` is of `fashion_cnn` only: timm models have their own layers.

    Raises:
        UsageError: timm knows no such model, or its pretrained weights cannot be had.
    """
    if model == FASHION_CNN:
        return build_fashion_cnn(
            dropout=dropout, batch_norm=batch_norm, num_classes=num_classes, channels=channels, image_size=image_size
        )
    backbone = _build_backbone(model, pretrained, channels, num_classes=IMAGENET_CLASSES if head == "report" else 0)
    if head == "report":
        layers = [nn.Linear(IMAGENET_CLASSES, 16), nn.Linear(16, 64), nn.Linear(64, num_classes)]
    else:
        layers = [nn.Linear(_count_features(backbone), num_classes)]
    return Classifier(backbone, nn.Sequential(nn.Dropout(dropout), *layers))


def build_fashion_cnn(
    *, dropout: float, batch_norm: bool, num_classes: int, channels: int, image_size: int
) -> Classifier:
    """Builds the Fashion-MNIST report's kind of CNN: conv + pool blocks, dropout, a dense layer of 128.

    `dropout` is the dense layer's; the convolutions have half of it. `batch_norm` follows each of them.
    """

    def convolution(num_inputs: int, num_outputs: int) -> list[nn.Module]:
        layer = nn.Conv2d(num_inputs, num_outputs, 3, padding=1, bias=not batch_norm)
        return [layer, *([nn.BatchNorm2d(num_outputs)] if batch_norm else []), nn.ReLU()]

    side = image_size // 4
    backbone = nn.Sequential(
        *convolution(channels, 32),
        nn.MaxPool2d(2),
        *convolution(32, 64),
        nn.MaxPool2d(2),
        nn.Dropout(dropout / 2),
        *convolution(64, 128),
        nn.Dropout(dropout / 2),
        nn.Flatten(),
    )
    head = nn.Sequential(nn.Linear(128 * side * side, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, num_classes))
    return Classifier(backbone, head)


def check_pretrained(model: str) -> None:
    """Fails early, as every trial would, where a model has no pretrained weights or they cannot be had.

    Raises:
        UsageError: one of these, or timm knows no such model.
    """
    if model == FASHION_CNN:
        raise UsageError("fashion_cnn has no pretrained weights: use --set task.pretrained=false")
    _build_backbone(model, True, 3, num_classes=0)


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


def _check_connection(model: str) -> None:
    """Raises what the hub's client raises where there is no connection and no cached copy.

    It does so at once: a download without a connection is tried again for most of a minute.
    """
    import timm
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        return
    repository, _, revision = config.hf_hub_id.partition("@")
    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for name in names:
        if isinstance(try_to_load_from_cache(repository, name, revision=revision or None), str):
            return
    with contextlib.suppress(HfHubHTTPError):
        get_hf_file_metadata(hf_hub_url(repository, names[0], revision=revision or None))


def _build_backbone(model: str, pretrained: bool, channels: int, num_classes: int) -> nn.Module:
    import timm

    check_name(model)
    try:
        if pretrained:
            _check_connection(model)
        backbone: nn.Module = timm.create_model(
            model, pretrained=pretrained, in_chans=channels, num_classes=num_classes
        )
    except Exception as error:
        if not pretrained:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(
            f"the pretrained weights of {model} cannot be had: {reason}\n"
            "timm fetches them from the Hugging Face hub once and keeps them in its cache (HF_HOME). "
            "Run once with network, copy that cache here, or train from scratch with --set task.pretrained=false"
        ) from error
    return backbone
