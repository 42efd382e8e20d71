"""The strategy over a real Optuna study in a journal file: proposals, early stopping, what is remembered."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_info, threadpool_limits

from raysweep.config import Budget, TrainingConfig
from raysweep.run_folder import SearchFolder
from raysweep.search.session.storage import open_storage
from raysweep.search.strategy.strategy import MAX_RETRIES, Strategy, create_strategy
from raysweep.study import Study
from raysweep.trial_result import Params, TrialResult


def open_strategy(study: Study, folder: Path) -> Strategy:
    folder.mkdir(exist_ok=True)
    return create_strategy(study, open_storage(SearchFolder(folder), None), study.name)


def propose(strategy: Strategy) -> tuple[int, Params]:
    proposal = strategy.propose()
    assert proposal is not None
    return proposal


def end(
    strategy: Strategy, number: int, params: Params, state: Any = "COMPLETE", value: Any = 0.5, error: str | None = None
) -> None:
    strategy.tell(
        TrialResult(number=number, state=state, value=value, best_epoch=2, params=params, duration_s=1.0, error=error)
    )


def test_the_baseline_is_trial_0_and_the_budget_counts_every_trial(study: Study, tmp_path: Path) -> None:
    strategy = open_strategy(study, tmp_path)
    proposals = []
    while (proposal := strategy.propose()) is not None:
        proposals.append(proposal)
        end(strategy, *proposal, state="FAIL" if proposal[0] == 3 else "COMPLETE", value=0.1 * len(proposals))
    assert [number for number, _ in proposals] == list(range(12))
    assert proposals[0][1] == study.baseline


def test_points_are_tried_first_and_count_as_trials(study: Study, tmp_path: Path) -> None:
    points = tuple({"training.epochs": epochs} for epochs in (4, 5, 6))
    study = dataclasses.replace(study, points=points, budget=Budget(trials=3))
    strategy = open_strategy(study, tmp_path)
    proposals = [strategy.propose() for _ in range(4)]
    assert proposals == [*enumerate(study.starting_points[:3]), None]


def test_conditional_keys_are_proposed_only_where_they_exist(study: Study, tmp_path: Path) -> None:
    strategy = open_strategy(study, tmp_path)
    seen = set()
    while (proposal := strategy.propose()) is not None:
        number, params = proposal
        assert ("task.momentum" in params) == (params["task.optimizer"] == "sgd")
        assert set(params) == set(study.space_at(params))
        study.trial_config(params, number)
        seen.add(params["task.optimizer"])
        end(strategy, number, params)
    assert seen == {"adam", "sgd"}


def test_every_report_and_end_is_in_the_journal(study: Study, tmp_path: Path) -> None:
    strategy = open_strategy(study, tmp_path)
    runs = [propose(strategy) for _ in range(3)]
    for number, _ in runs:
        strategy.report(number, 1, 0.3)
        strategy.report(number, 2, 0.6 + number / 10)
    end(strategy, *runs[0], value=0.6)
    end(strategy, *runs[1], state="PRUNED", value=0.7)
    end(strategy, *runs[2], state="FAIL", value=None, error="TrialError: train/loss is nan")
    stored = optuna.load_study(
        study_name="small", storage=JournalStorage(JournalFileBackend(str(SearchFolder(tmp_path).journal)))
    ).trials
    assert [trial.state.name for trial in stored] == ["COMPLETE", "PRUNED", "FAIL"]
    assert stored[0].value == 0.6
    assert stored[0].user_attrs["best_epoch"] == 2
    assert stored[1].intermediate_values == {1: 0.3, 2: 0.7}
    assert stored[2].user_attrs["error"] == "TrialError: train/loss is nan"


def test_weak_trials_are_stopped_after_the_grace_epochs_and_the_baseline_never(study: Study, tmp_path: Path) -> None:
    space = {**study.space, "training.epochs": IntDistribution(8, 10)}
    study = dataclasses.replace(study, training=TrainingConfig(epochs=8), space=space)
    strategy = open_strategy(study, tmp_path)
    baseline = propose(strategy)
    for good in range(1, 5):
        number, params = propose(strategy)
        for epoch in range(1, 9):
            strategy.report(number, epoch, 0.8 + 0.001 * epoch * good)
        end(strategy, number, params, value=0.8 + 0.008 * good)
    weak = propose(strategy)[0]
    assert [strategy.report(weak, epoch, 0.1) for epoch in range(1, 6)][::4] == [False, True]
    assert not any(strategy.report(baseline[0], epoch, 0.01) for epoch in range(1, 7))


def test_the_same_seed_proposes_the_same_points(study: Study, tmp_path: Path) -> None:
    points = []
    for name in ("a", "b"):
        strategy = open_strategy(study, tmp_path / name)
        mine = []
        while (proposal := strategy.propose()) is not None:
            mine.append(proposal)
            end(strategy, *proposal, value=proposal[1]["task.learning_rate"])
        points.append(mine)
    assert points[0] == points[1]


class ThreadCounter(optuna.samplers.RandomSampler):
    """Keeps in how many threads linear algebra is computed while it proposes."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.counts: set[int] = set()

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, *args: Any) -> Any:
        self.counts |= count_threads()
        return super().sample_independent(study, trial, *args)


def count_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_proposal_computes_in_one_thread_and_what_follows_in_as_many_as_before(study: Study, tmp_path: Path) -> None:
    strategy = open_strategy(study, tmp_path)
    strategy.optuna_study.sampler = counter = ThreadCounter()
    propose(strategy)  # the baseline, of which nothing is drawn
    with threadpool_limits(limits=2, user_api="blas"):
        propose(strategy)
        assert count_threads() == {2}
    assert counter.counts == {1}


def test_what_a_proposal_and_an_end_write_is_synced_once(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the file before that: another process, and one that comes after a kill, reads it."""
    strategy = open_strategy(study, tmp_path)
    journal, fsync, synced = SearchFolder(tmp_path).journal, os.fsync, []

    def sync(descriptor: int) -> None:
        synced.append(len(journal.read_bytes().splitlines()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    propose(strategy)
    number, params = propose(strategy)
    strategy.report(number, 1, 0.5)
    end(strategy, number, params)
    assert len(synced) == 4
    assert synced == sorted(synced)
    assert synced[-1] == len(journal.read_bytes().splitlines())
    assert optuna.load_study(study_name=study.name, storage=open_storage(SearchFolder(tmp_path), None)).trials == (
        strategy.optuna_study.trials
    )


def test_trials_in_flight_go_on_first_and_finished_ones_are_never_proposed_again(study: Study, tmp_path: Path) -> None:
    study = dataclasses.replace(study, budget=Budget(trials=5))
    first = open_strategy(study, tmp_path)
    runs = [propose(first) for _ in range(3)]
    first.report(0, 1, 0.5)
    for epoch in (1, 2):
        first.report(1, epoch, 0.6)
    end(first, *runs[0])
    second = open_strategy(study, tmp_path)  # the first one's process is dead
    assert [second.propose() for _ in range(2)] == runs[1:]
    assert [second.num_reported(number) for number in (1, 2)] == [2, 0]
    second.report(1, 2, 0.9)  # reported again after its restart: told apart by its epoch
    second.report(1, 3, 0.7)
    assert second.optuna_study.trials[1].intermediate_values == {1: 0.6, 2: 0.6, 3: 0.7}
    assert [propose(second)[0] for _ in range(2)] == [3, 4]
    assert second.propose() is None
    assert not second.has_work()
    for number in range(1, 5):
        end(second, number, {}, state="PRUNED" if number == 1 else "COMPLETE", value=0.7)
    results = second.results()
    assert [result.number for result in results] == list(range(5))
    assert results[0].params == runs[0][1]
    assert (results[1].state, results[1].value) == ("PRUNED", 0.7)


def test_a_point_that_was_asked_for_in_part_is_completed(study: Study, tmp_path: Path) -> None:
    first = open_strategy(study, tmp_path)
    end(first, *propose(first))
    rate = first.optuna_study.ask().suggest_float("task.learning_rate", 1e-4, 1e-2, log=True)  # killed here
    number, params = propose(open_strategy(study, tmp_path))
    assert number == 1
    assert params["task.learning_rate"] == rate
    assert set(params) == set(study.space_at(params))


def test_a_trial_whose_process_dies_is_proposed_again_a_few_times_in_all_sessions(study: Study, tmp_path: Path) -> None:
    strategy = open_strategy(study, tmp_path)
    proposal = strategy.propose()
    assert strategy.retry(0)
    assert strategy.propose() == proposal
    strategy = open_strategy(study, tmp_path)  # a killed driver is not the trial's fault
    assert strategy.propose() == proposal
    assert [strategy.retry(0) for _ in range(3)] == [True] * (MAX_RETRIES - 1) + [False] * (4 - MAX_RETRIES)


def test_a_study_that_goes_on_proposes_other_random_points(study: Study, tmp_path: Path) -> None:
    study = dataclasses.replace(study, budget=Budget(trials=3))
    points = []
    for _ in range(3):
        strategy = open_strategy(study, tmp_path)
        while (proposal := strategy.propose()) is not None:
            points.append(proposal[1]["task.learning_rate"])
            end(strategy, *proposal)
        study = dataclasses.replace(study, budget=Budget(trials=study.budget.trials + 2))
    assert len(points) == len(set(points)) == 7


def test_the_target_ends_the_search(study: Study, tmp_path: Path) -> None:
    study = dataclasses.replace(study, budget=Budget(trials=9, target=0.9))
    strategy = open_strategy(study, tmp_path)
    runs = [propose(strategy) for _ in range(3)]
    end(strategy, *runs[0], value=0.89)
    assert strategy.has_work()
    end(strategy, *runs[1], value=0.9)
    assert strategy.propose() is None
    assert open_strategy(study, tmp_path).propose() == runs[2], "what is under way goes on"
