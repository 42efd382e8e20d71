"""What a model costs: counted and timed for every task, once for each trial, as its second objective."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep import file_guard
from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.data.batches import Worker
from raysweep.data.images import DataInfo, PreparedData
from raysweep.run_folder import TrialFolder
from raysweep.task_config import TaskConfig
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.gan.config import GanConfig
from raysweep.train.cost import measure_cost
from raysweep.train.loop import fit
from raysweep.train.report import EpochReport
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

INFO = DataInfo(source="drawn", synthetic=True, digest="0" * 64, classes=("a", "b"), num_train=8, num_val=4, num_test=4)
ACCURACY = Objective(metric="val/accuracy")
LOSS = Objective(metric="val/loss", direction="minimize")
SIZE = Objective(metric="model/num_parameters", direction="minimize")
LATENCY = Objective(metric="model/latency_ms", direction="minimize")


@pytest.mark.parametrize(
    ("task", "normalization"),
    [
        (ClassificationConfig(model="fashion_cnn"), "unit"),
        (ClassificationConfig(model="fashion_cnn", ema_decay=0.9), "unit"),
        (ClassificationConfig(model="resnet10t", backbone_factor=0.0), "unit"),
        (AutoencoderConfig(), "unit"),
        (AutoencoderConfig(variant="variational"), "unit"),
        (GanConfig(), "symmetric"),
        (GanConfig(conditional=True), "symmetric"),
    ],
)
def test_every_task_has_costs(task: TaskConfig, normalization: str) -> None:
    data = DataConfig(image_size=28, channels=1, normalization=normalization)  # type: ignore[arg-type]
    config = TrialConfig(task=task, data=data, training=TrainingConfig(precision="fp32"))
    built = build_task(config, INFO)
    state = built.init_state(Worker(), lambda module: module)
    weights = [value.numel() for value in state.best_modules()[built.main_module].parameters()]
    assert measure_cost("model/num_parameters", built, state, config, Worker()) == sum(weights) > 1000
    assert 0.01 < measure_cost("model/latency_ms", built, state, config, Worker()) < 1000


def test_a_wider_model_costs_more() -> None:
    costs = []
    for width in (0.5, 4.0):
        data = DataConfig(image_size=64, channels=1, normalization="unit")
        config = TrialConfig(task=AutoencoderConfig(width=width), data=data, training=TrainingConfig(precision="fp32"))
        task = build_task(config, INFO)
        state = task.init_state(Worker(), lambda module: module)
        metrics = ("model/num_parameters", "model/latency_ms")
        costs.append([measure_cost(metric, task, state, config, Worker()) for metric in metrics])
    assert costs[0][0] < costs[1][0]
    assert costs[0][1] < costs[1][1]


def test_a_cost_is_among_the_metrics_of_each_epoch_and_survives_a_restart(
    make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    reports: list[EpochReport] = []
    given: dict[str, Any] = {
        "report": reports.append,
        "second_objective": LATENCY,
        "folder": TrialFolder(tmp_path),
        "resume": True,
    }
    fit(make_config(epochs=2), make_data(), ACCURACY, **given)
    fit(make_config(epochs=4), make_data(), ACCURACY, num_reported=1, **given)
    rows = file_guard.read_json_lines(tmp_path / "metrics.jsonl")
    assert [report.metrics["epoch"] for report in reports] == [1, 2, 2, 3, 4]
    assert len({row["model/latency_ms"] for row in rows}) == 1
    assert {report.second_value for report in reports} == {rows[0]["model/latency_ms"]}


def test_the_second_value_is_that_of_the_best_epoch(
    make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    reports: list[EpochReport] = []
    given: dict[str, Any] = {
        "report": reports.append,
        "second_objective": LOSS,
        "folder": TrialFolder(tmp_path),
        "resume": True,
    }
    state = fit(make_config(learning_rate=3e-3), make_data(), ACCURACY, **given)
    fit(make_config(learning_rate=3e-3), make_data(), ACCURACY, num_reported=0, **given)
    losses = [row["val/loss"] for row in state.history]
    assert losses[state.best_epoch - 1] != losses[-1]
    assert [report.second_value for report in reports] == 2 * [losses[report.best_epoch - 1] for report in reports[:4]]


def test_a_second_objective_changes_no_training(
    make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    histories = []
    for second in (None, SIZE, LATENCY):
        state = fit(make_config(dropout=0.3), make_data(), LOSS, report=lambda report: None, second_objective=second)
        assert ("model/" in str(state.history)) == (second is not None)
        histories.append([{key: row[key] for key in ("train/loss", "val/loss")} for row in state.history])
    assert histories[0] == histories[1] == histories[2]
