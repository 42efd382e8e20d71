"""Networks, losses, metrics and augmentations of one's own: checked early, sent along, kept, and run on trust only."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysweep import own_code
from raysweep.config import DataConfig, TrainingConfig
from raysweep.config_fields import replace_fields
from raysweep.data.batches import Batch, Worker
from raysweep.data.images import DataInfo
from raysweep.errors import CorruptFileError, UsageError
from raysweep.evaluate.stored_model import import_code, load_best
from raysweep.kept_model import check_model
from raysweep.run_folder import RunFolder
from raysweep.search.best_model import _copy_model
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.networks import Classifier
from raysweep.train.checkpoint import save_weights
from raysweep.train.task import Task, build_task
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import save_config
from raysweep.trial_result import TrialResult

CODE = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, num_classes, in_channels, width=4):
        super().__init__()
        self.features = nn.Conv2d(in_channels, width, 3)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


def no_head(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Auxiliary(Network):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.auxiliary = nn.Linear(4, num_classes)


def maps(num_classes, in_channels):
    return nn.Linear(8, num_classes)


def twice(logits, labels):
    return 2 * nn.functional.cross_entropy(logits, labels, reduction="none")


def mean(logits, labels):
    return nn.functional.cross_entropy(logits, labels)


def is_second(logits, labels):
    return labels == 1


def blank(images):
    return torch.zeros_like(images)
"""
INFO = DataInfo(source="s", synthetic=False, digest="d", classes=("a", "b", "c"), num_train=8, num_val=2, num_test=2)


@pytest.fixture
def code(tmp_path: Path, no_lasting_trust: None) -> str:
    """A file of code."""
    path = tmp_path / "networks.py"
    path.write_text(CODE)
    return str(path)


def configure(**values: Any) -> TrialConfig:
    return TrialConfig(
        task=ClassificationConfig(**{"model": "fashion_cnn", **values}),
        data=DataConfig(image_size=8, channels=1, normalization="unit"),
        training=TrainingConfig(batch_size=4, precision="fp32"),
    )


def build(**values: Any) -> Task:
    return build_task(configure(**values), INFO)


def draw_batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    return Batch(torch.rand(4, 1, 8, 8, generator=draw), torch.tensor([0, 1, 2, 1]), np.arange(4))


def test_a_network_is_called_with_classes_channels_and_its_arguments(code: str) -> None:
    model = build(model=f"{code}:Network", model_args={"width": 6}).load_modules()["model"]
    assert isinstance(model, Classifier)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    backbone, head = model.split_parameters()
    assert [tuple(weight.shape) for weight in backbone] == [(6, 1, 3, 3), (6,)]
    assert [tuple(weight.shape) for weight in head] == [(3, 6), (3,)]


def test_a_network_is_trained_with_two_learning_rates(code: str) -> None:
    task = build(model=f"{code}:Network", backbone_factor=0.5, learning_rate=0.1)
    state = task.init_state(Worker(), lambda module: module)
    assert [group["lr"] for group in state.optimizers["model"].param_groups] == [0.05, 0.1]
    before = {name: value.clone() for name, value in state.modules["model"].state_dict().items()}
    task.train_step(state, draw_batch())
    assert all(not torch.equal(value, before[name]) for name, value in state.modules["model"].state_dict().items())


def test_loss_metric_and_augmentation_of_ones_own(code: str) -> None:
    def run(**values: Any) -> tuple[float, dict[str, float]]:
        torch.manual_seed(0)
        task = build(**values)
        state = task.init_state(Worker(), lambda module: module)
        loss = task.compute_loss(state, draw_batch())["loss"]
        return float(loss.detach()), task.evaluate(state, [draw_batch()])

    plain, _ = run()
    twice, metrics = run(loss=f"{code}:twice", metric=f"{code}:is_second")
    assert twice == pytest.approx(2 * plain)
    assert metrics["val/is_second"] == 0.5
    assert metrics["val/loss"] > 0
    assert "val/is_second" in configure(metric=f"{code}:is_second").task.reported_metrics
    assert run(augmentation=f"{code}:blank")[0] != plain


@pytest.mark.parametrize(
    ("field", "name", "message"),
    [
        ("model", "Missing", r"has no 'Missing'; it has: Auxiliary, Network"),
        ("model", "blank", r"task\.model must be callable with \(num_classes=\.\.\., in_channels=\.\.\.\)"),
        ("loss", "blank", r"task\.loss must be callable with \(logits, labels\)"),
        ("augmentation", "mean", r"task\.augmentation must be callable with \(images\)"),
    ],
)
def test_code_that_cannot_be_called_is_refused_at_once(field: str, name: str, message: str, code: str) -> None:
    config = ClassificationConfig(**{"model": "fashion_cnn", field: f"{code}:{name}"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        config.check_available()


@pytest.mark.parametrize(
    ("field", "name", "message"),
    [
        ("model", "no_head", r"must end in an nn\.Linear with 3 outputs"),
        ("model", "maps", r"must return \(2, 3\) for \(2, 1, 8, 8\), got \(2, 1, 8, 3\)"),
        ("model", "Auxiliary", r"must return what its last nn\.Linear with 3 outputs gives, once; declare others"),
        ("loss", "mean", r"task\.loss=.* must return \(2,\) for \(2, 3\) and \(2,\), got \(\)"),
    ],
)
def test_code_of_another_shape_is_refused_before_any_trial(field: str, name: str, message: str, code: str) -> None:
    task = build(**{field: f"{code}:{name}"})
    with pytest.raises(UsageError, match=message):
        task.check_modules(task.init_modules())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head": "report"}, r"task\.head must be linear for a network of your own"),
        ({"dropout": 0.1}, r"task\.dropout must be 0 for a network of your own"),
        ({"loss": "focal"}, r"task\.loss must be cross_entropy or one of your own"),
        ({"loss": "a.py:f", "label_smoothing": 0.1}, r"task\.label_smoothing must be 0 with a loss"),
        ({"metric": "a.py:accuracy"}, r"task\.metric must have another name than .*val/accuracy"),
        ({"pretrained": " "}, r"task\.pretrained must be true, false, a path"),
    ],
)
def test_fields_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassificationConfig(**{"model": "a.py:Network", **values})


def test_the_file_travels_with_the_configuration(code: str) -> None:
    """To a process that has no such file."""
    values: dict[str, Any] = {"model": f"{code}:Network", "model_args": {"width": 5}}
    pickled = pickle.dumps(configure(**values))
    Path(code).unlink()
    program = """
import pickle, sys
from raysweep.data.images import DataInfo
from raysweep.train.task import build_task
config = pickle.loads(sys.stdin.buffer.read())
info = DataInfo(source="s", synthetic=False, digest="d", classes=("a", "b"), num_train=8, num_val=2, num_test=2)
pickle.dumps(config)
print(type(build_task(config, info).load_modules()["model"].backbone).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, timeout=120)
    assert done.stdout.decode().strip() == "Network", done.stderr.decode()


@pytest.fixture
def run(code: str, tmp_path: Path) -> RunFolder:
    """A run whose best model is a network of somebody's own, which this process was never told of."""
    folder = RunFolder(tmp_path / "run")
    config = configure(model=f"{code}:Network")
    task = replace_fields(config.task, config.task.fetch(tmp_path))
    config = TrialConfig(task=task, data=config.data, training=config.training)
    trained = folder.trial(0)
    save_config(trained.config, 0, config, INFO, {})
    save_weights(trained.weights, build_task(config, INFO).load_modules(), {"epoch": 1, "value": 0.5})
    own_code.trust(task.code_references)
    result = TrialResult(number=0, state="COMPLETE", value=0.5, best_epoch=1, params={}, duration_s=1.0)
    _copy_model(trained, folder.best, result)
    own_code._trusted.clear()
    return folder


def test_best_has_the_file_and_asks_for_trust(run: RunFolder, code: str) -> None:
    (kept,) = run.best.list_code()
    assert kept.read_text() == CODE
    Path(code).unlink()
    with pytest.raises(UsageError, match=r"reading a run runs no code; .*--trust-code"):
        load_best(run, torch.device("cpu"))
    import_code(run)
    assert load_best(run, torch.device("cpu")).modules["model"](torch.zeros(1, 1, 8, 8)).shape == (1, 3)


def test_a_file_of_best_that_was_changed_is_not_run(run: RunFolder, tmp_path: Path) -> None:
    (kept,) = run.best.list_code()
    kept.write_text(f"from pathlib import Path; Path({str(tmp_path / 'ran')!r}).touch()")
    with pytest.raises(CorruptFileError, match="must be the file that was kept"):
        check_model(run.best)
    with pytest.raises(CorruptFileError):
        import_code(run)
    assert not (tmp_path / "ran").exists()
