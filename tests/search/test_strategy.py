"""The strategy over a real Optuna study in a journal file: proposals, early stopping, what is remembered."""

import dataclasses

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.search.strategy import TrialResult, create_strategy
from raysweep.study import Study, When
from raysweep.tasks.classification import ClassificationConfig


@pytest.fixture
def study() -> Study:
    return Study(
        name="small",
        task=ClassificationConfig(optimizer="adam"),
        data=DataConfig(),
        training=TrainingConfig(epochs=3),
        space={
            "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
            "task.optimizer": CategoricalDistribution(("adam", "sgd")),
            "training.epochs": IntDistribution(3, 10),
        },
        conditions=(When("task.optimizer", "sgd", {"task.momentum": FloatDistribution(0.5, 0.95)}),),
        objective=Objective(metric="val/accuracy"),
        budget=Budget(trials=12),
    )


def end(strategy, number, params, state="COMPLETE", value=0.5, error=None):
    strategy.tell(
        TrialResult(number=number, state=state, value=value, best_epoch=2, params=params, duration_s=1.0, error=error)
    )


def test_the_baseline_is_trial_0_and_the_budget_counts_every_trial(study, tmp_path):
    strategy = create_strategy(study, tmp_path / "journal")
    proposals = []
    while (proposal := strategy.propose()) is not None:
        proposals.append(proposal)
        end(strategy, *proposal, state="FAIL" if proposal[0] == 3 else "COMPLETE", value=0.1 * len(proposals))
    assert [number for number, _ in proposals] == list(range(12))
    assert proposals[0][1] == study.baseline


def test_points_are_tried_first_and_count_as_trials(study, tmp_path):
    points = tuple({"training.epochs": epochs} for epochs in (4, 5, 6))
    study = dataclasses.replace(study, points=points, budget=Budget(trials=3))
    strategy = create_strategy(study, tmp_path / "journal")
    proposals = [strategy.propose() for _ in range(4)]
    assert proposals == [*enumerate(study.starting_points[:3]), None]


def test_conditional_keys_are_proposed_only_where_they_exist(study, tmp_path):
    strategy = create_strategy(study, tmp_path / "journal")
    seen = set()
    while (proposal := strategy.propose()) is not None:
        number, params = proposal
        assert ("task.momentum" in params) == (params["task.optimizer"] == "sgd")
        assert set(params) == set(study.space_at(params))
        study.trial_config(params, number)
        seen.add(params["task.optimizer"])
        end(strategy, number, params)
    assert seen == {"adam", "sgd"}


def test_every_report_and_end_is_in_the_journal(study, tmp_path):
    strategy = create_strategy(study, tmp_path / "journal")
    runs = [strategy.propose() for _ in range(3)]
    for number, _ in runs:
        strategy.report(number, 1, 0.3)
        strategy.report(number, 2, 0.6 + number / 10)
    end(strategy, *runs[0], value=0.6)
    end(strategy, *runs[1], state="PRUNED", value=0.7)
    end(strategy, *runs[2], state="FAIL", value=None, error="TrialError: train/loss is nan")
    stored = optuna.load_study(
        study_name="small", storage=JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    ).trials
    assert [trial.state.name for trial in stored] == ["COMPLETE", "PRUNED", "FAIL"]
    assert stored[0].value == 0.6
    assert stored[0].user_attrs["best_epoch"] == 2
    assert stored[1].intermediate_values == {1: 0.3, 2: 0.7}
    assert stored[2].user_attrs["error"] == "TrialError: train/loss is nan"


def test_weak_trials_are_stopped_after_the_grace_epochs_and_the_baseline_never(study, tmp_path):
    space = {**study.space, "training.epochs": IntDistribution(8, 10)}
    study = dataclasses.replace(study, training=TrainingConfig(epochs=8), space=space)
    strategy = create_strategy(study, tmp_path / "journal")
    baseline = strategy.propose()
    for good in range(1, 5):
        number, params = strategy.propose()
        for epoch in range(1, 9):
            strategy.report(number, epoch, 0.8 + 0.001 * epoch * good)
        end(strategy, number, params, value=0.8 + 0.008 * good)
    weak = strategy.propose()[0]
    assert [strategy.report(weak, epoch, 0.1) for epoch in range(1, 6)][::4] == [False, True]
    assert not any(strategy.report(baseline[0], epoch, 0.01) for epoch in range(1, 7))


def test_the_same_seed_proposes_the_same_points(study, tmp_path):
    points = []
    for name in ("a", "b"):
        strategy = create_strategy(study, tmp_path / name)
        mine = []
        while (proposal := strategy.propose()) is not None:
            mine.append(proposal)
            end(strategy, *proposal, value=proposal[1]["task.learning_rate"])
        points.append(mine)
    assert points[0] == points[1]
