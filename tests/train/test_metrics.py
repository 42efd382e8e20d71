"""Sums over batches and workers, and the metrics from them: to the last digit what torchmetrics finds."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from raysweep.config import Objective
from raysweep.data.images import PreparedData
from raysweep.errors import TrialError
from raysweep.task_config import Metric, TaskConfig
from raysweep.tasks.classification.config import METRICS, ClassificationConfig
from raysweep.train.loop import fit
from raysweep.train.metrics import Sums, add_up, compare_with_declared, count_confusions, get_mean, score_confusions
from raysweep.trial_config import TrialConfig

LOSS = Objective(metric="val/loss", direction="minimize")


@settings(deadline=None, max_examples=100)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60),
    size=st.integers(1, 20),
    num_workers=st.integers(1, 3),
)
def test_scores_are_torchmetrics_in_any_batches_on_any_number_of_workers(
    pairs: list[tuple[int, int]], size: int, num_workers: int
) -> None:
    """Also where classes are absent from labels, predictions or both, and where a worker has no batch."""
    labels, predicted = torch.tensor(pairs).T
    theirs = {
        "accuracy": MulticlassAccuracy(6, average="micro"),
        "mean_class_accuracy": MulticlassAccuracy(6, average="macro"),
        "macro_f1": MulticlassF1Score(6, average="macro"),
    }
    batches = list(zip(labels.split(size), predicted.split(size), strict=True))
    for metric in theirs.values():
        for truth, guess in batches:
            metric.update(guess, truth)
    workers = [
        add_up({"confusions": count_confusions(truth, guess, 6)} for truth, guess in batches[rank::num_workers])
        for rank in range(num_workers)
    ]
    confusions = add_up(workers)["confusions"]
    assert isinstance(confusions, torch.Tensor)
    found = {name: float(value) for name, value in score_confusions(confusions).items()}
    assert found == {name: float(metric.compute()) for name, metric in theirs.items()}


def test_macro_scores_of_absent_and_of_wrongly_predicted_classes() -> None:
    """Class 2 occurs nowhere and counts nowhere; class 1 is predicted only and counts as 0."""
    scores = score_confusions(count_confusions(torch.tensor([0, 0]), torch.tensor([0, 1]), 3))
    found = {name: float(value) for name, value in scores.items()}
    assert found == pytest.approx({"accuracy": 0.5, "mean_class_accuracy": 0.25, "macro_f1": 1 / 3})


def test_a_mean_is_torchmetrics_and_shows_a_nan() -> None:
    losses = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 3
    theirs = MeanMetric(nan_strategy="disable")
    for part in losses.split(37):
        theirs.update(part)
    parts = [{"loss": part.sum(), "num_images": torch.tensor(len(part))} for part in losses.split(37)]
    assert float(get_mean(add_up(parts), "loss")) == float(theirs.compute())
    parts[3]["loss"] = parts[3]["loss"] * torch.nan
    assert get_mean(add_up(parts), "loss").isnan()


def test_lists_are_kept_whole_and_in_order() -> None:
    rows = torch.arange(10).view(5, 2)
    parts: list[Sums] = [{}]
    parts += [{"rows": [part]} for part in rows.split(2)]
    (name, kept), *_ = add_up(parts).items()
    assert name == "rows"
    assert torch.equal(torch.cat(list(kept)), rows)


@pytest.mark.parametrize(
    ("declared", "computed", "complaint"),
    [
        ({"val/a"}, {"val/a": 1.0}, None),
        (
            {"val/a"},
            {
                "val/a": 1.0,
                "epoch": 1.0,
                "train/images_per_s": 9.0,
                "train/data_wait_s": 1.0,
                "model/num_parameters": 5.0,
            },
            None,
        ),
        ({"val/a", "val/b"}, {"val/a": 1.0}, "declared but not computed: val/b"),
        ({"val/a"}, {"val/a": 1.0, "train/b": 1.0, "val/c": 1.0}, "not declared: train/b, val/c"),
        ({"val/a"}, {"val/b": 1.0}, "declared but not computed: val/a; not declared: val/b"),
    ],
)
def test_complaints(declared: set[str], computed: dict[str, float], complaint: str | None) -> None:
    assert compare_with_declared(declared, computed) == complaint


@pytest.mark.parametrize("name", ["accuracy", "test/accuracy", "model/num_parameters"])
def test_a_metric_is_of_training_or_validation_images(name: str) -> None:
    with pytest.raises(ValueError, match=f"a metric is val/NAME or train/NAME, got '{name}'"):
        Metric(name, "maximize", "")


class Wordy(ClassificationConfig):
    """Declares other metrics than are computed; a test sets them."""

    __slots__ = ()
    kind: ClassVar[str] = "wordy"
    declared: ClassVar[tuple[Metric, ...]] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.declared


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        (METRICS[:-1], "not declared: val/macro_f1; see Wordy.metrics and ClassificationTask"),
        ((*METRICS, Metric("val/auc", "maximize", "")), "declared but not computed: val/auc; see Wordy.metrics"),
        (METRICS[1:], "not declared: train/loss"),
    ],
)
def test_a_trial_fails_where_declared_and_computed_metrics_differ(
    declared: tuple[Metric, ...],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    make_data: Callable[..., PreparedData],
    make_config: Callable[..., TrialConfig],
) -> None:
    monkeypatch.setattr(Wordy, "declared", declared)
    config = make_config(epochs=1)
    config = TrialConfig(task=Wordy(model="fashion_cnn"), data=config.data, training=config.training)
    with pytest.raises(TrialError, match=re.escape(complaint)):
        fit(config, make_data(), LOSS, report=lambda report: None)


def test_a_task_without_metrics_says_what_is_missing() -> None:
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Silent(TaskConfig):
        kind: ClassVar[str] = "silent"

    with pytest.raises(NotImplementedError, match="Silent must declare its metrics"):
        _: Any = Silent().reported_metrics
