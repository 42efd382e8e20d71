"""The training loop: it learns, one seed is one run, and everything is on disk before it is reported."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raysweep import file_guard
from raysweep.config import Objective
from raysweep.data.batches import Ingredients, iterate_ingredients
from raysweep.data.images import PreparedData
from raysweep.errors import TrialError
from raysweep.run_folder import TrialFolder
from raysweep.train import checkpoint, loop
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.report import EpochReport
from raysweep.train.state import TrainState
from raysweep.train.step import StepRunner
from raysweep.trial_config import TrialConfig

ACCURACY = Objective(metric="val/accuracy")
LOSS = Objective(metric="val/loss", direction="minimize")
WORST_LOSS = Objective(metric="val/loss", direction="maximize")
"""Falls as the model learns: the first epoch is the best, and early stopping has something to stop."""

KEYS = {
    "epoch",
    "train/loss",
    "learning_rate",
    "train/images_per_s",
    "train/data_wait_s",
    "val/loss",
    "val/accuracy",
    "val/mean_class_accuracy",
    "val/macro_f1",
}


class Recorder:
    """A report callback that keeps what it was told."""

    def __init__(self) -> None:
        self.reports: list[EpochReport] = []

    def __call__(self, report: EpochReport) -> None:
        self.reports.append(report)


def run(config: TrialConfig, data: PreparedData, objective: Objective = ACCURACY, **options: Any) -> TrainState:
    return fit(config, data, objective, **{"report": Recorder(), **options})


def without_speed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key not in OF_MACHINES} for row in history]


def test_it_learns(make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]) -> None:
    state = run(make_config(epochs=6, learning_rate=3e-3), make_data(num_train=60))
    losses = [row["train/loss"] for row in state.history]
    assert losses[-1] < 0.5 * losses[0]
    assert state.history[-1]["val/loss"] < state.history[0]["val/loss"]
    assert state.history[-1]["val/accuracy"] > 0.8  # chance: 1/3
    assert state.step == 6 * 8


def test_one_seed_is_one_run(make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]) -> None:
    data = make_data()

    def once(seed: int) -> TrainState:
        torch.manual_seed(torch.seed())  # whatever the process did before
        return run(make_config(seed=seed, epochs=2, dropout=0.3, strength=0.5), data)

    first, second, other = once(5), once(5), once(6)
    assert without_speed(first.history) == without_speed(second.history)
    weights, same, different = (state.modules["model"].state_dict() for state in (first, second, other))
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    assert not any(torch.equal(value, different[name]) for name, value in weights.items())
    assert without_speed(first.history) != without_speed(other.history)


def test_evaluation_batch_size_changes_no_metric(
    make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    data = make_data()
    rows = [run(make_config(epochs=2, eval_batch_size=size), data).history[-1] for size in (1, 4, 500)]
    for row in rows[1:]:
        assert row["val/loss"] == pytest.approx(rows[0]["val/loss"], abs=1e-6)
        for name in ("val/accuracy", "val/mean_class_accuracy", "val/macro_f1"):
            assert row[name] == rows[0][name]


def test_reports_and_history(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    recorder = Recorder()
    state = run(make_config(), make_data(), LOSS, report=recorder, folder=TrialFolder(tmp_path / "trial"))
    assert [report.metrics for report in recorder.reports] == state.history
    assert file_guard.read_json_lines(tmp_path / "trial" / "metrics.jsonl") == state.history
    assert all(set(row) == KEYS for row in state.history)
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4]
    assert [report.finished for report in recorder.reports] == [False, False, False, True]
    values = [row["val/loss"] for row in state.history]
    for index, report in enumerate(recorder.reports):
        assert report.value == values[index]
        assert report.best_value == min(values[: index + 1])
        assert report.best_epoch == 1 + values.index(report.best_value)


def test_the_wait_for_data_is_that_for_batches_alone(
    make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, run_step = [0.0], StepRunner.run

    def fetch_slowly(*arguments: Any, **named: Any) -> Iterator[Ingredients]:
        for ingredients in iterate_ingredients(*arguments, **named):
            clock[0] += 2.0
            yield ingredients

    def step_slowly(runner: StepRunner, ingredients: Ingredients, seed: int) -> None:
        clock[0] += 3.0
        run_step(runner, ingredients, seed)

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(loop, "iterate_ingredients", fetch_slowly)
    monkeypatch.setattr(StepRunner, "run", step_slowly)
    state = run(make_config(epochs=2), make_data(num_train=40))
    told = [(row["train/data_wait_s"], row["train/images_per_s"]) for row in state.history]
    assert told == 2 * [(5 * 2.0, 40 / (5 * (2.0 + 3.0)))]


def test_everything_is_on_disk_before_the_report(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    folder = TrialFolder(tmp_path / "trial")
    seen = []

    def report(epoch: EpochReport) -> None:
        _, facts = checkpoint.load_tensors(folder.checkpoint)
        counters = dict(dict(facts["items"])["counters"]["items"])
        assert counters["epoch"] == epoch.metrics["epoch"]
        assert counters["best_epoch"] == epoch.best_epoch
        _, best = checkpoint.load_tensors(folder.weights)
        assert best == {"epoch": epoch.best_epoch, "value": epoch.best_value}
        assert file_guard.read_json_lines(folder.metrics)[-1] == epoch.metrics
        seen.append(epoch.metrics["epoch"])

    run(make_config(), make_data(), report=report, folder=folder)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_best_is_the_best_epoch_not_the_last(
    ema_decay: float | None,
    tmp_path: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
) -> None:
    folder = TrialFolder(tmp_path / "trial")
    part = "/averages/model/module." if ema_decay else "/modules/model/"
    epochs: list[dict[str, torch.Tensor]] = []

    def report(epoch: EpochReport) -> None:
        tensors, _ = checkpoint.load_tensors(folder.checkpoint)
        epochs.append({key.removeprefix(part): value for key, value in tensors.items() if key.startswith(part)})

    state = run(make_config(ema_decay=ema_decay), make_data(), WORST_LOSS, report=report, folder=folder)
    assert state.best_epoch < 4
    stored, facts = checkpoint.load_tensors(folder.weights)
    assert facts == {"epoch": state.best_epoch, "value": state.best_value}
    assert set(stored) == {f"model/{name}" for name in epochs[0]}
    for name, value in stored.items():
        assert torch.equal(value, epochs[state.best_epoch - 1][name.removeprefix("model/")])
        assert not torch.equal(value, epochs[-1][name.removeprefix("model/")])


@pytest.mark.parametrize("patience", [1, 2])
def test_early_stopping(
    patience: int, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    recorder = Recorder()
    config = make_config(epochs=8, early_stopping_patience=patience)
    state = run(config, make_data(), WORST_LOSS, report=recorder)
    assert state.epochs_since_best == patience
    assert state.epoch == state.best_epoch + patience < 8
    assert [report.finished for report in recorder.reports] == [False] * (state.epoch - 1) + [True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        # several steps an epoch: the loss itself overflows; one step: only the evaluation shows it
        ({"learning_rate": 1e30}, r"train/loss is (nan|inf) in epoch 1: .*task\.learning_rate"),
        ({"learning_rate": 1e38, "batch_size": 36}, r"val/loss is (nan|inf) in epoch 1: .*gradient_clip_norm"),
    ],
)
def test_divergence_names_metric_and_epoch(
    values: dict[str, Any],
    message: str,
    tmp_path: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
) -> None:
    recorder = Recorder()
    with pytest.raises(TrialError, match=message):
        run(
            make_config(optimizer="sgd", **values), make_data(), report=recorder, folder=TrialFolder(tmp_path / "trial")
        )
    assert not recorder.reports
    assert not (tmp_path / "trial").exists()


def test_divergence_keeps_the_last_good_epoch(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    """The weights go bad in the second epoch; the first epoch's checkpoint stays."""
    folder = TrialFolder(tmp_path / "trial")
    config = make_config(optimizer="sgd", learning_rate=1e-3, epochs=3)

    def report(epoch: EpochReport) -> None:
        torch.nn.init.constant_(live["model"].head[-1].weight, float("nan"))

    live: dict[str, Any] = {}

    def prepare(module: torch.nn.Module) -> torch.nn.Module:
        live["model"] = module
        return module

    with pytest.raises(TrialError, match="train/loss is nan in epoch 2"):
        run(config, make_data(), report=report, folder=folder, prepare=prepare)
    tensors, _ = checkpoint.load_tensors(folder.checkpoint)
    assert all(value.isfinite().all() for value in tensors.values())
    assert len(file_guard.read_json_lines(folder.metrics)) == 1


def test_resuming_a_finished_trial_reports_nothing(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    folder = TrialFolder(tmp_path / "trial")
    first = run(make_config(), make_data(), folder=folder)
    folder.metrics.unlink()  # as if killed between the checkpoint and the history
    recorder = Recorder()
    second = run(make_config(), make_data(), folder=folder, report=recorder, resume=True)
    assert not recorder.reports
    assert second.history == first.history
    assert file_guard.read_json_lines(folder.metrics) == first.history


@pytest.mark.parametrize(("num_reported", "epochs"), [(0, [1, 2, 3, 4]), (2, [3, 4]), (3, [4]), (4, [4]), (9, [4])])
def test_epochs_that_never_arrived_are_reported_again_from_the_history(
    num_reported: int,
    epochs: list[int],
    tmp_path: Path,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
) -> None:
    config, data, first, again = make_config(epochs=4), make_data(), Recorder(), Recorder()
    run(config, data, folder=TrialFolder(tmp_path), report=first)
    run(config, data, folder=TrialFolder(tmp_path), report=again, resume=True, num_reported=num_reported)
    assert again.reports == first.reports[epochs[0] - 1 :]
    assert [report.finished for report in again.reports] == [epoch == 4 for epoch in epochs]


def test_a_trial_goes_on_after_the_epochs_that_are_reported_again(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    recorder = Recorder()
    run(make_config(epochs=2), make_data(), folder=TrialFolder(tmp_path))
    run(make_config(epochs=4), make_data(), folder=TrialFolder(tmp_path), report=recorder, resume=True, num_reported=1)
    assert [(report.metrics["epoch"], report.finished) for report in recorder.reports] == [
        (2, False),
        (3, False),
        (4, True),
    ]


def test_resuming_without_a_checkpoint_starts_anew(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> None:
    state = run(make_config(epochs=1), make_data(), folder=TrialFolder(tmp_path / "trial"), resume=True)
    assert [row["epoch"] for row in state.history] == [1]


def test_without_a_folder_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
) -> None:
    data = make_data()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(make_config(epochs=1), data)
    assert not list((tmp_path / "here").iterdir())
