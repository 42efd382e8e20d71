"""The classification task: its loss, metrics and freezing; every field of its configuration changes something."""

import dataclasses
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import nn

from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.batches import Batch, Worker
from raysweep.data.images import DataInfo
from raysweep.data.mixing import Mixing
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.networks import Classifier
from raysweep.tasks.classification.task import ClassificationTask, weigh_classes
from raysweep.train.optim import build_optimizer
from raysweep.train.state import TrainState
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES, SIZE, BATCH_SIZE, STEPS, EPOCHS = 3, 32, 6, 2, 5
INFO = DataInfo(
    source="noise",
    synthetic=True,
    digest="0" * 64,
    classes=("a", "b", "c"),
    num_train=BATCH_SIZE * STEPS,
    num_val=BATCH_SIZE,
    num_test=0,
)


def build(epochs: int = EPOCHS, folder: Path | None = None, **values: Any) -> tuple[ClassificationTask, TrainState]:
    config = TrialConfig(
        task=ClassificationConfig(**{"model": "test_resnet", **values}),
        data=DataConfig(image_size=SIZE),
        training=TrainingConfig(epochs=epochs, batch_size=BATCH_SIZE, precision="fp32"),
    )
    torch.manual_seed(0)
    task = build_task(config, INFO, folder=folder)
    assert isinstance(task, ClassificationTask)
    return task, task.init_state(Worker(), lambda module: module)


def make_batch(seed: int, num_images: int = BATCH_SIZE, weight: float = 1.0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(num_images, 3, SIZE, SIZE, generator=draw)
    return Batch(images, torch.randint(NUM_CLASSES, (num_images,), generator=draw), np.arange(num_images), weight)


def train(task: ClassificationTask, state: TrainState) -> None:
    """A few seeded epochs in which the validation loss never gets better."""
    for epoch in range(EPOCHS):
        for step in range(STEPS):
            torch.manual_seed(epoch * STEPS + step)
            task.train_step(state, make_batch(step))
            state.end_step()
        task.end_epoch(state, {"val/loss": 1.0 + epoch})


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def list_changes(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


# what else has to be set so that the field can show; the two values
FIELDS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "model": ({}, ["test_resnet", "fashion_cnn"]),
    "model_args": ({}, [{}, {"act_layer": "gelu"}]),
    "head": ({}, ["linear", "report"]),
    "dropout": ({}, [0.0, 0.5]),
    "batch_norm": ({"model": "fashion_cnn"}, [False, True]),
    "label_smoothing": ({}, [0.0, 0.1]),
    "optimizer": ({"weight_decay": 0.1}, ["adam", "adamw", "sgd"]),
    "learning_rate": ({}, [1e-3, 2e-3]),
    "backbone_factor": ({}, [1.0, 0.1, 0.0]),
    "frozen_stages": ({}, [0, 2, 100]),
    "layer_decay": ({}, [1.0, 0.5]),
    "momentum": ({}, [0.9, 0.5]),
    "weight_decay": ({}, [0.0, 0.1]),
    "schedule": ({}, ["none", "cosine", "plateau", "one_cycle"]),
    "warmup_epochs": ({}, [0.0, 1.0]),
    "gradient_clip_norm": ({}, [None, 0.01]),
    "ema_decay": ({}, [None, 0.9, 0.5]),
    "freeze_batch_norm": ({}, [False, True]),
}


def test_the_table_has_every_field() -> None:
    """What comes from files is tested in test_weights.py and test_own_code.py, class weights below."""
    others = {"pretrained", "weights", "code", "loss", "metric", "augmentation", "test_time_flip", "class_weighting"}
    assert FIELDS.keys() == {field.name for field in fields(ClassificationConfig)} - others


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_changes_the_model(name: str) -> None:
    others, values = FIELDS[name]
    outcomes = []
    for value in [*values, values[0]]:
        task, state = build(**others, **{name: value})
        train(task, state)
        outcomes.append(snapshot(state.best_modules()["model"]))
    *outcomes, again = outcomes
    assert not list_changes(outcomes[0], again)
    for index, first in enumerate(outcomes):
        for second in outcomes[:index]:
            same_shapes = {key: value.shape for key, value in first.items()} == {
                key: value.shape for key, value in second.items()
            }
            assert not same_shapes or list_changes(first, second)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("dropout", 0.96),
        ("dropout", -0.1),
        ("label_smoothing", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("backbone_factor", 1.1),
        ("momentum", 1.0),
        ("weight_decay", -1e-9),
        ("warmup_epochs", -1.0),
        ("gradient_clip_norm", 0.0),
        ("ema_decay", 1.0),
        ("ema_decay", 0.0),
        ("class_weighting", -0.1),
        ("class_weighting", 1.1),
    ],
)
def test_values_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"task.{name} must be .*, got {value!r}"):
        ClassificationConfig(**{name: value})


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_training_loss_is_the_smoothed_cross_entropy(smoothing: float) -> None:
    """Mean over the batch of -sum(target * log p), target (1 - s) on the class and s / classes on all."""
    task, state = build(label_smoothing=smoothing)
    batch = make_batch(0)
    model = state.modules["model"].train()
    logits = model(batch.images.contiguous(memory_format=torch.channels_last))
    target = F.one_hot(batch.labels, NUM_CLASSES) * (1 - smoothing) + smoothing / NUM_CLASSES
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(task.train_step(state, batch)["loss"], expected.detach())


def test_the_weight_of_a_share_scales_the_gradient_not_the_reported_loss() -> None:
    steps = []
    for weight in (1.0, 0.5):
        task, state = build(optimizer="sgd", momentum=0.0, learning_rate=0.1)
        before = snapshot(state.modules["model"])
        loss = task.train_step(state, make_batch(0, weight=weight))["loss"]
        steps.append((loss, state.modules["model"].state_dict()["head.1.weight"] - before["head.1.weight"]))
    assert torch.equal(steps[0][0], steps[1][0])
    torch.testing.assert_close(steps[0][1], 2 * steps[1][1], rtol=1e-4, atol=1e-7)


def test_clipping_bounds_the_step() -> None:
    """Plain SGD moves the weights by learning rate x gradient: by 0.1 x 0.01 at most."""
    task, state = build(optimizer="sgd", momentum=0.0, learning_rate=0.1, gradient_clip_norm=0.01)
    before = [parameter.detach().clone() for parameter in state.modules["model"].parameters()]
    task.train_step(state, make_batch(0))
    moves = [new.detach() - old for new, old in zip(state.modules["model"].parameters(), before, strict=True)]
    assert torch.cat([move.flatten() for move in moves]).norm().item() == pytest.approx(0.001, rel=1e-3)


def test_backbone_factor_zero_trains_the_head_only() -> None:
    task, state = build(backbone_factor=0.0, weight_decay=0.1, optimizer="adamw")
    model = state.modules["model"]
    before = snapshot(model)
    train(task, state)
    parameters = {name for name, _ in model.named_parameters()}
    assert list_changes(before, snapshot(model)) & parameters == {"head.1.weight", "head.1.bias"}


def test_the_backbone_has_its_own_learning_rate() -> None:
    _, state = build(backbone_factor=0.1, learning_rate=1e-2)
    backbone, head = state.optimizers["model"].param_groups
    assert (backbone["lr"], head["lr"]) == pytest.approx((1e-3, 1e-2))
    assert len(head["params"]) == 2


def test_frozen_batch_norm_keeps_statistics_and_scale() -> None:
    task, state = build(freeze_batch_norm=True, weight_decay=0.1, optimizer="adamw")
    model = state.modules["model"]
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms
    before = snapshot(model)
    train(task, state)
    changed = list_changes(before, snapshot(model))
    assert not {name for name in changed if name.rpartition(".")[0] in norms}
    assert {name for name, _ in model.named_parameters() if name.rpartition(".")[0] not in norms} == changed


def test_batch_norm_learns_where_it_is_not_frozen() -> None:
    task, state = build()
    before = snapshot(state.modules["model"])
    train(task, state)
    assert list_changes(before, snapshot(state.modules["model"])) == set(before)


def test_the_average_is_evaluated_and_follows_the_weights() -> None:
    task, state = build(ema_decay=0.75, optimizer="sgd")
    model, average = state.modules["model"], state.best_modules()["model"]
    assert average is not model
    task.train_step(state, make_batch(0))
    state.end_step()
    first = snapshot(model)
    assert not list_changes(first, snapshot(average))  # the first update copies
    task.train_step(state, make_batch(1))
    state.end_step()
    second, averaged = snapshot(model), snapshot(average)
    for name in ("head.1.weight", "backbone.bn1.running_mean"):
        torch.testing.assert_close(averaged[name], 0.75 * first[name] + 0.25 * second[name])
    batch = make_batch(2)
    expected = F.cross_entropy(task.infer(average, batch.images), batch.labels)
    assert task.evaluate(state, [batch])["val/loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_metrics_are_exact_over_batches_and_epochs() -> None:
    """As scikit-learn has them, for batches of different sizes, and from nothing again in the next epoch."""
    task, state = build()
    for epoch in range(2):
        batches = [make_batch(10 * epoch + index, size) for index, size in enumerate((7, 4, 1))]
        logits = torch.cat([task.infer(state.modules["model"], batch.images) for batch in batches])
        labels, predicted = torch.cat([batch.labels for batch in batches]), logits.argmax(1)
        expected = {
            "val/loss": F.cross_entropy(logits, labels).item(),
            "val/accuracy": sklearn.metrics.accuracy_score(labels, predicted),
            "val/mean_class_accuracy": sklearn.metrics.balanced_accuracy_score(labels, predicted),
            "val/macro_f1": sklearn.metrics.f1_score(labels, predicted, average="macro"),
        }
        assert task.evaluate(state, batches) == pytest.approx(expected, abs=1e-6)
        task.train_step(state, make_batch(99))


def test_the_validation_loss_is_not_smoothed() -> None:
    losses = []
    for smoothing in (0.0, 0.5):
        task, state = build(label_smoothing=smoothing)
        losses.append(task.evaluate(state, [make_batch(0)])["val/loss"])
    assert losses[0] == losses[1]


def test_one_image_whose_loss_is_not_finite_shows() -> None:
    """A mean that leaves NaN out would hide a model that fails on some images."""
    task, state = build()
    batch = make_batch(0)
    batch.images[2] = float("nan")
    assert np.isnan(task.evaluate(state, [batch])["val/loss"])


def test_weights_are_loaded_without_a_download() -> None:
    """`pretrained` asks for weights when training starts, not when stored ones are loaded."""
    config = TrialConfig(
        task=ClassificationConfig(model="test_resnet", pretrained=True),
        data=DataConfig(image_size=SIZE),
        training=TrainingConfig(),
    )
    modules = build_task(config, INFO).load_modules()
    assert modules["model"](torch.zeros(2, 3, SIZE, SIZE)).shape == (2, NUM_CLASSES)


def test_every_parameter_that_trains_is_in_one_group() -> None:
    for values in ({}, {"backbone_factor": 0.0}, {"freeze_batch_norm": True}, {"head": "report"}):
        _, state = build(**values)
        grouped = [parameter for group in state.optimizers["model"].param_groups for parameter in group["params"]]
        trained = [parameter for parameter in state.modules["model"].parameters() if parameter.requires_grad]
        assert len(grouped) == len(trained) == len({id(parameter) for parameter in (*grouped, *trained)})


def test_the_optimizer_is_the_one_that_is_named() -> None:
    _, state = build(optimizer="sgd", momentum=0.3, weight_decay=0.2)
    optimizer = state.optimizers["model"]
    assert type(optimizer) is type(
        build_optimizer("sgd", [{"params": [nn.Parameter(torch.ones(1))], "lr": 1.0}], weight_decay=0, momentum=0)
    )
    assert all(group["momentum"] == 0.3 and group["weight_decay"] == 0.2 for group in optimizer.param_groups)


def test_rare_classes_weigh_more_and_the_mean_over_the_images_stays() -> None:
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    even, half, whole = (weigh_classes(labels, 4, strength).numpy() for strength in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(even, 1)
    np.testing.assert_allclose(half[1] / half[0], 10**0.5, rtol=1e-5)
    np.testing.assert_allclose(whole[:3] * [100, 10, 1], 37, rtol=1e-5)
    for weights in (even, half, whole):
        np.testing.assert_allclose(weights[labels].mean(), 1, rtol=1e-5)


@pytest.mark.parametrize("mixed", [False, True])
def test_class_weights_scale_the_loss_of_each_image(tmp_path: Path, mixed: bool) -> None:
    batch = make_batch(0)
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train" / "labels.npy", np.repeat([0, 1, 2], [8, 4, 1]))
    if mixed:
        batch = dataclasses.replace(batch, mixing=Mixing(batch.labels.roll(1), torch.full((BATCH_SIZE,), 0.5)))
    task, state = build(folder=tmp_path, class_weighting=1.0)
    model = state.modules["model"].train()
    logits = model(batch.images.contiguous(memory_format=torch.channels_last))
    weights = torch.tensor([13 / 24, 13 / 12, 13 / 3])
    losses = [
        F.cross_entropy(logits, labels, reduction="none") * weights[labels]
        for labels in (batch.labels, batch.labels.roll(1))
    ]
    expected = (losses[0] + losses[1]).mean() / 2 if mixed else losses[0].mean()
    torch.testing.assert_close(task.train_step(state, batch)["loss"], expected.detach())


@pytest.mark.parametrize("model", ["test_resnet", "fashion_cnn"])
def test_stages_are_all_of_the_backbone_in_order(model: str) -> None:
    network = build(model=model)[1].modules["model"]
    assert isinstance(network, Classifier)
    stages = network.list_stages()
    assert len(stages) > 2
    own = [id(weight) for stage in stages for weight in stage]
    assert sorted(own) == sorted(id(weight) for weight in network.backbone.parameters())
    assert stages[0][0] is next(network.backbone.parameters())


def test_frozen_stages_are_the_first() -> None:
    network = build(frozen_stages=2)[1].modules["model"]
    assert isinstance(network, Classifier)
    trained = [any(weight.requires_grad for weight in stage) for stage in network.list_stages()]
    assert trained == [False, False, *([True] * (len(trained) - 2))]
    assert all(weight.requires_grad for weight in network.head.parameters())


def test_learning_rates_fall_from_stage_to_stage() -> None:
    _, state = build(layer_decay=0.5, backbone_factor=0.8, learning_rate=1e-2)
    rates = [group["lr"] for group in state.optimizers["model"].param_groups]
    assert rates[-3:] == pytest.approx([0.4e-2, 0.8e-2, 1e-2])
    assert all(low == pytest.approx(high / 2) for low, high in pairwise(rates[:-1]))


def test_test_time_flip_labels_an_image_as_its_mirror_image() -> None:
    images = make_batch(0).images
    for flips in (False, True):
        task, state = build(test_time_flip=flips)
        logits = [task.infer(state.modules["model"], shown) for shown in (images, images.flip(-1))]
        assert torch.allclose(logits[0], logits[1], atol=1e-6) is flips
