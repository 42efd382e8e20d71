"""Training the best again, without Ray: who is chosen, intervals, the winner, and what going on repeats."""

import dataclasses
from pathlib import Path
from typing import Any

import optuna
import pytest
from scipy import stats

from raysweep.config import Objective
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder, SearchFolder
from raysweep.search.finalists.retraining import Retraining, open_retraining
from raysweep.search.finalists.statistics import (
    Finalist,
    choose_finalists,
    describe_finalists,
    find_best_training,
    find_winner,
    mean_interval,
    summarise_finalists,
    welch_interval,
)
from raysweep.search.overrides import Overrides
from raysweep.search.retention import Retention, keep_all
from raysweep.search.session.identity import Identity
from raysweep.search.session.storage import open_storage
from raysweep.search.strategy.strategy import Strategy, create_strategy
from raysweep.study import Study
from raysweep.trial_result import Params, TrialResult

ACCURACY = Objective(metric="val/accuracy")
LOSS = Objective(metric="val/loss", direction="minimize")
IDENTITY = Identity(run_id="abc", study_name="small")


def end(
    number: int, value: Any, params: Params | None = None, state: Any = "COMPLETE", error: str | None = None
) -> TrialResult:
    params = {"x": number} if params is None else params
    return TrialResult(
        number=number, state=state, value=value, best_epoch=1, params=params, duration_s=1.0, error=error
    )


def make_finalist(number: int, search: float, values: Any) -> Finalist:
    """A value of none is a training that failed."""
    trainings = [
        end(10 * number + seed, value, {"x": number}, *(["FAIL", "diverged"] if value is None else []))
        for seed, value in enumerate(values)
    ]
    return Finalist(trial=end(number, search), trainings=tuple(trainings))


# choice


@pytest.mark.parametrize(
    ("objective", "most", "expected"),
    [(ACCURACY, 1, [0, 3]), (ACCURACY, 3, [0, 3, 1, 6]), (ACCURACY, 9, [0, 3, 1, 6]), (LOSS, 2, [0, 6, 1])],
)
def test_the_best_complete_points_are_chosen_and_always_the_baseline(
    objective: Objective, most: int, expected: list[int]
) -> None:
    results = [
        end(0, 0.95),
        end(1, 0.8),
        end(2, 0.99, state="PRUNED"),
        end(3, 0.9),
        end(4, 0.7, {"x": 3}),  # trial 3's point, as far as accuracy goes
        end(5, 0.99, {"x": 0}),  # the baseline's point
        end(6, 0.1),
        end(7, None, state="FAIL"),
    ]
    if objective is LOSS:
        expected = [0, 6, 4][: most + 1]
    assert [result.number for result in choose_finalists(results, objective, most)] == expected


def test_a_baseline_that_failed_is_tried_again() -> None:
    results = [end(0, None, state="FAIL"), end(1, 0.8)]
    assert [result.number for result in choose_finalists(results, ACCURACY, 5)] == [0, 1]


# figures


def test_the_intervals_are_those_of_scipy() -> None:
    ours, others = [0.91, 0.93, 0.92, 0.97], [0.88, 0.9, 0.83]
    expected = stats.ttest_1samp(ours, 0).confidence_interval(0.95)
    assert mean_interval(ours) == pytest.approx((expected.low, expected.high), abs=1e-12)
    expected = stats.ttest_ind(ours, others, equal_var=False).confidence_interval(0.95)
    assert welch_interval(ours, others) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_seeds_that_do_not_differ_have_no_interval() -> None:
    assert mean_interval([0.3, 0.3]) == pytest.approx((0.3, 0.3), abs=1e-12)
    assert welch_interval([0.5, 0.5], [0.25, 0.25]) == (None, None)
    expected = stats.t.interval(0.95, 1, loc=0.25, scale=0.05)
    assert welch_interval([0.5, 0.5], [0.2, 0.3]) == pytest.approx(expected, abs=1e-12)


def test_the_mean_decides_and_not_the_search_or_the_best_seed() -> None:
    finalists = [
        make_finalist(0, 0.7, [0.7, 0.7]),
        make_finalist(1, 0.95, [0.99, 0.61]),
        make_finalist(2, 0.9, [0.84, 0.86]),
        make_finalist(3, 0.8, [0.99, None]),
    ]
    winner = find_winner(finalists, ACCURACY)
    assert winner is not None
    assert winner.trial.number == 2
    for objective, number in ((ACCURACY, 21), (LOSS, 20)):
        best = find_best_training(winner, objective)
        assert best is not None
        assert best.number == number
    lowest = find_winner(finalists, LOSS)
    assert lowest is not None
    assert lowest.trial.number == 0
    record = summarise_finalists(finalists, ACCURACY, 3, 2)
    assert record is not None
    assert record.winner == 2
    assert record.optimism == pytest.approx(0.95 - 0.8), "of trial 1, which led the search"
    assert [found.optimism for found in record.configurations] == pytest.approx([0, 0.15, 0.05, None])
    assert record.configurations[3].values == (0.99, None)
    assert record.configurations[2].mean == pytest.approx(0.85)
    lift = record.lift
    assert lift is not None
    assert lift.difference == pytest.approx(0.15)
    assert (lift.low, lift.high) == welch_interval([0.84, 0.86], [0.7, 0.7])
    assert not lift.includes_zero
    assert summarise_finalists([], ACCURACY, None, None) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (([0.7, 0.71], [0.9, 0.91]), "winner on validation: trial 1, +0.2000 val/accuracy over the baseline"),
        (([0.7, 0.9], [0.8, 0.9]), "the interval includes zero: no lift is shown"),
        (([0.9, 0.9], [0.9, 0.9]), "the winner on validation is the baseline: there is no lift over it"),
        (([0.7, None], [0.8, 0.9]), "no lift is stated, as the baseline failed with a seed"),
        (([0.7, None], [0.9, None]), "no winner: every configuration failed with a seed"),
    ],
)
def test_the_text_says_what_there_is_of_a_lift(values: Any, says: str) -> None:
    finalists = [make_finalist(number, 0.9, seeds) for number, seeds in enumerate(values)]
    *_, optimism, lift = lines = describe_finalists(summarise_finalists(finalists, ACCURACY, 2, 2), ACCURACY)
    assert says in lift
    assert ("includes zero" in lift) == ("includes zero" in says)
    assert "no more than 1 of the 2" in lines[0]
    assert optimism.startswith("optimism of the search")
    assert any("1 of 2 seeds failed: diverged" in line for line in lines) == (None in [*values[0], *values[1]])


def test_of_seeds_that_agree_no_interval_is_said() -> None:
    finalists = [make_finalist(0, 0.5, [0.5, 0.6]), make_finalist(1, 0.8, [0.75, 0.75])]
    record = summarise_finalists(finalists, ACCURACY, 1, 2)
    assert record is not None
    assert [found.low is None for found in record.configurations] == [False, True]
    assert any(
        "trial 1: 0.7500 (no interval, as all seeds agree, n = 2)" in x for x in describe_finalists(record, ACCURACY)
    )


def test_of_a_loss_the_text_says_which_sign_is_optimistic() -> None:
    finalists = [make_finalist(0, 0.5, [0.5, 0.5]), make_finalist(1, 0.3, [0.4, 0.4])]
    lines = describe_finalists(summarise_finalists(finalists, LOSS, 1, 2), LOSS)
    assert lines[-2].endswith("below zero where the search was optimistic: -0.1000")
    assert "trial 1, -0.1000 val/loss over the baseline" in lines[-1]


# the trainings


def run_search(study: Study, run: Path) -> list[TrialResult]:
    """Four complete trials, of which the last is the best."""
    study = dataclasses.replace(study, budget=dataclasses.replace(study.budget, trials=4))
    strategy = create_strategy(study, open_storage(RunFolder(run), None), IDENTITY.study_name)
    while (proposal := strategy.propose()) is not None:
        strategy.tell(end(proposal[0], 0.5 + 0.1 * proposal[0], proposal[1]))
    return strategy.results()


def retrain(study: Study, run: Path, results: list[TrialResult], most: int, num_seeds: int) -> Retraining:
    chosen = choose_finalists(results, ACCURACY, most)
    return open_retraining(study, RunFolder(run), IDENTITY, chosen, num_seeds)


def propose(strategy: Strategy) -> tuple[int, Params]:
    proposal = strategy.propose()
    assert proposal is not None
    return proposal


def run_all(strategy: Strategy, value: Any = 0.6) -> list[tuple[int, Params]]:
    proposals = []
    while (proposal := strategy.propose()) is not None:
        proposals.append(proposal)
        assert not strategy.report(proposal[0], 3, -9.0), "none is stopped"
        strategy.tell(end(proposal[0], value, proposal[1]))
    return proposals


def test_each_configuration_is_proposed_with_seeds_of_its_own_and_the_search_is_untouched(
    study: Study, tmp_path: Path
) -> None:
    results = run_search(study, tmp_path)
    before = optuna.load_study(study_name="small", storage=open_storage(RunFolder(tmp_path), None)).trials
    again = retrain(study, tmp_path, results, 2, 3)
    seeds = {study.trial_config(result.params, result.number).seed for result in results}
    proposals = []
    while (proposal := again.propose()) is not None:
        config = again.trial_config(*proposal)
        seeds.add(config.seed)
        assert dataclasses.replace(config, seed=0) == dataclasses.replace(study.trial_config(proposal[1], 0), seed=0)
        proposals.append(proposal[1])
        again.tell(end(proposal[0], 0.1 * proposal[0], proposal[1]))
    assert proposals == [results[number].params for number in (0, 3, 2)] * 3
    assert len(seeds) == 4 + 9
    assert [[training.number for training in finalist.trainings] for finalist in again.finalists()] == [
        [0, 3, 6],
        [1, 4, 7],
        [2, 5, 8],
    ]
    assert optuna.load_study(study_name="small", storage=open_storage(RunFolder(tmp_path), None)).trials == before


def test_after_a_kill_what_ended_is_kept_and_what_was_in_flight_goes_on(study: Study, tmp_path: Path) -> None:
    results = run_search(study, tmp_path)
    first = retrain(study, tmp_path, results, 1, 2)
    proposals = [propose(first) for _ in range(2)]
    first.tell(end(proposals[0][0], 0.9, proposals[0][1]))
    first.report(proposals[1][0], 1, 0.3)
    configs = [first.trial_config(*proposal) for proposal in proposals[1:]]
    second = retrain(study, tmp_path, results, 1, 2)  # the first one's process is dead
    assert second.propose() == proposals[1]
    assert second.num_reported(1) == 1
    assert [second.trial_config(*proposals[1])] == configs
    second.tell(end(1, 0.8, proposals[1][1]))
    assert [number for number, _ in run_all(second)] == [2, 3]
    assert [finalist.values for finalist in second.finalists()] == [[0.9, 0.6], [0.8, 0.6]]
    assert not retrain(study, tmp_path, results, 1, 2).has_work()


def test_what_is_no_longer_asked_for_is_dropped_and_what_has_ended_counts(study: Study, tmp_path: Path) -> None:
    results = run_search(study, tmp_path)
    first = retrain(study, tmp_path, results, 2, 4)
    for _ in range(5):  # the three configurations with the first seed, and two with the second
        number, params = propose(first)
        first.tell(end(number, 0.7, params))
    in_flight, params = propose(first)
    assert params == results[2].params
    less = retrain(study, tmp_path, results, 1, 2)
    assert not less.has_work()
    assert less.optuna_study.trials[in_flight].state.name == "FAIL"
    more = retrain(study, tmp_path, results, 2, 3)
    assert [params for _, params in run_all(more)] == [results[number].params for number in (2, 0, 3, 2)]
    assert [finalist.values for finalist in more.finalists()] == [[0.7, 0.7, 0.6], [0.7, 0.7, 0.6], [0.7, 0.6, 0.6]]
    assert [len(finalist.trainings) for finalist in retrain(study, tmp_path, results, 1, 2).finalists()] == [3, 3]


def test_files_of_another_space_are_not_taken_for_those_of_this(study: Study, tmp_path: Path) -> None:
    results = run_search(study, tmp_path)
    left = RunFolder(tmp_path).finalists.trial(0).checkpoint
    left.parent.mkdir(parents=True)
    left.touch()
    retrain(study, tmp_path, results, 1, 2)
    assert not left.exists()
    left.parent.mkdir(parents=True)
    left.touch()
    retrain(study, tmp_path, results, 1, 2)
    assert left.exists()


def test_of_each_configuration_all_seeds_are_kept(tmp_path: Path) -> None:
    ended = [end(0, 0.5, {"x": 0}), end(1, 0.1, {"x": 1}), end(2, 0.6, {"x": 0}), end(3, 0.2, {"x": 1})]
    for result in [*ended, end(4, 0.3)]:
        folder = SearchFolder(tmp_path).trial(result.number)
        folder.best.mkdir(parents=True)
        folder.last.mkdir()
    retention = Retention(SearchFolder(tmp_path), ended[:2], keep_all)
    for result in ended[2:]:
        retention.trial_ended(result)
    kept = {name: sorted(path.parent.name for path in tmp_path.rglob(name)) for name in ("best", "last")}
    assert kept == {"best": ["0000", "0001", "0002", "0003", "0004"], "last": ["0004"]}


# usage


@pytest.mark.parametrize(
    "said", [{"finalists": 2}, {"seeds": 3}, {"finalists": 0, "seeds": 3}, {"finalists": 1, "seeds": 1}]
)
def test_wrong_numbers_are_refused(study: Study, said: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"--finalists K, at least 1, and --seeds S, at least 2, go together"):
        Overrides(**said).apply(study)
    assert Overrides(finalists=1, seeds=2).apply(study) == study
    assert Overrides(seeds=5).over(Overrides(finalists=1, seeds=2)) == Overrides(finalists=1, seeds=5)
