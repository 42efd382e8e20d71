"""Two objectives, without Ray: what Optuna is told, the front, and what is refused."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import IntDistribution
from optuna.storages import InMemoryStorage

from raysweep.config import Budget, Objective
from raysweep.data.images import DataInfo
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides
from raysweep.search.pareto import describe_front, draw_front
from raysweep.search.ranking import find_front, rank_results
from raysweep.search.results import Results
from raysweep.search.session.identity import Identity, StudyRecord, save_record
from raysweep.search.session.opening import enter_run
from raysweep.search.session.space_change import change_space
from raysweep.search.strategy.strategy import create_strategy
from raysweep.study import Study
from raysweep.trial_record import save_config
from raysweep.trial_result import TrialResult

Build = Callable[..., Results]
ACCURACY = Objective(metric="val/accuracy")
SIZE = Objective(metric="model/num_parameters", direction="minimize")


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    return make_study(second_objective=SIZE)


INFO = DataInfo(source="drawn", synthetic=True, digest="", classes=("a", "b"), num_train=8, num_val=4, num_test=4)


def end(number: int, value: Any, second_value: float | None, state: Any = "COMPLETE") -> TrialResult:
    return TrialResult(
        number=number, state=state, value=value, second_value=second_value, best_epoch=1, params={}, duration_s=1.0
    )


# the strategy


@pytest.mark.parametrize("sampler", ["default", "tpe", "random", "nsga2", "gp"])
def test_a_search_by_each_sampler_stops_nothing_and_tells_optuna_both_values(study: Study, sampler: str) -> None:
    strategy = create_strategy(study, InMemoryStorage(), "small", sampler=sampler)
    while (proposal := strategy.propose()) is not None:
        number, params = proposal
        assert set(params) == set(study.space_at(params))
        assert not any(strategy.report(number, epoch, 0.9 if number < 9 else 0.01) for epoch in range(1, 9))
        state = "FAIL" if number == 3 else "COMPLETE"
        strategy.tell(end(number, 0.5 + number / 100, 1000.0 - number % 5, state))
    trials = strategy.optuna_study.trials
    assert len(trials) == study.budget.trials == 12
    assert len({tuple(trial.params.items()) for trial in trials}) > 6
    assert strategy.optuna_study.directions == [
        optuna.study.StudyDirection.MAXIMIZE,
        optuna.study.StudyDirection.MINIMIZE,
    ]
    assert trials[2].values == [0.52, 998.0]
    assert (trials[3].state.name, trials[3].values) == ("FAIL", None)
    results = strategy.results()
    assert (results[2].value, results[2].second_value, results[2].best_epoch) == (0.52, 998.0, 1)
    assert (results[3].value, results[3].second_value) == (None, None)
    assert [result.number for result in find_front(results, study.objectives)] == [11, 9]


def test_what_is_under_way_goes_on_after_the_epochs_that_were_reported(study: Study) -> None:
    storage = InMemoryStorage()
    first = create_strategy(study, storage, "small")
    runs = [first.propose() for _ in range(2)]
    for epoch in (1, 2):
        first.report(0, epoch, 0.5)
    second = create_strategy(study, storage, "small")  # the first one's process is dead
    assert [second.propose() for _ in range(2)] == runs
    assert [second.num_reported(number) for number in (0, 1)] == [2, 0]
    second.report(0, 2, 0.5)
    second.report(0, 3, 0.6)
    second.tell(end(0, 0.6, 1000.0))
    assert second.optuna_study.trials[0].user_attrs["num_epochs"] == 3


def test_the_target_is_of_the_first_objective(study: Study) -> None:
    study = dataclasses.replace(study, budget=Budget(trials=9, target=0.9))
    strategy = create_strategy(study, InMemoryStorage(), "small")
    for value in (0.89, 0.9):
        assert strategy.has_budget()
        number, _ = strategy.propose() or pytest.fail("nothing is proposed")
        strategy.tell(end(number, value, 0.5))
    assert not strategy.has_budget()


# the front


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=20),
    st.tuples(*2 * [st.sampled_from(["maximize", "minimize"])]),
)
def test_the_front_is_optunas_and_the_best_is_on_it(values: list[tuple[int, int]], directions: tuple[Any, Any]) -> None:
    optuna_study = optuna.create_study(directions=directions)
    for pair in values:
        optuna_study.add_trial(optuna.create_trial(values=pair))
    objectives = [Objective(metric=f"val/{index}", direction=direction) for index, direction in enumerate(directions)]
    results = [end(number, *pair) for number, pair in enumerate(values)]
    front = find_front([*results, end(99, 9.0, -9.0, "FAIL")], objectives)
    assert sorted(result.number for result in front) == [trial.number for trial in optuna_study.best_trials]
    assert front[0] == rank_results(results, objectives)[0]
    firsts = [result.value for result in front if result.value is not None]
    assert len(firsts) == len(front)
    assert firsts == sorted(firsts, reverse=directions[0] == "maximize")


def test_there_is_no_front_with_one_objective(build_results: Build) -> None:
    assert find_front([end(0, 0.5, None)], [ACCURACY]) == []
    results = build_results([end(0, 0.5, None)])
    stored = results.to_json()
    assert not {"pareto_front", "second_objective"} & set(stored)
    assert "values" not in stored["trials"][0]
    assert describe_front(results) == []


def test_the_front_in_the_results_and_as_a_table(study: Study, build_results: Build) -> None:
    results = [end(0, 0.5, 412330.0), end(1, 0.9, 999.0), end(2, 0.95, 1e6), end(3, None, None, "FAIL")]
    front = tuple(trial.number for trial in find_front(results, study.objectives))
    found = build_results(results, second_objective=SIZE, pareto_front=front)
    stored = json.loads(json.dumps(found.to_json()))
    assert stored["pareto_front"] == [2, 1]
    assert stored["second_objective"] == {"metric": "model/num_parameters", "direction": "minimize"}
    assert [trial["values"] for trial in stored["trials"]] == [[0.5, 412330], [0.9, 999], [0.95, 1e6], [None, None]]
    assert Results.from_json(stored) == found
    assert describe_front(found) == [
        "Pareto front of 2 trials; the models of 10 at most are in trials/*/best:",
        "  trial  val/accuracy  model/num_parameters",
        "      2        0.9500             1,000,000",
        "      1        0.9000              999.0000",
    ]


def test_a_front_that_cannot_be_drawn_is_one_sentence(
    tmp_path: Path, build_results: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    folder.test.write_text("no folder")
    trials = [end(0, 0.5, 1.0), end(1, 0.9, 2.0)]
    draw_front(folder, build_results(trials, second_objective=SIZE, pareto_front=(1, 0)))
    said = capsys.readouterr().err
    assert said.startswith(f"{folder.pareto_front} could not be drawn (")
    assert len(said.splitlines()) == 1


# what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model/params", r"unknown second objective 'model/params'.*model/latency_ms, model/num_parameters, val/acc"),
        ("val/acuracy:maximize", "did you mean 'val/accuracy'"),
        ("val/macro_f1", "give val/macro_f1:maximize or val/macro_f1:minimize"),
        ("val/accuracy:maximize", "two metrics, got 'val/accuracy' twice; others: model/latency_ms"),
        ("model/latency_ms:maximize", "model/latency_ms must have minimize, got 'maximize'"),
        ("parameters:minimize", "an objective is a validation metric, val/NAME, or a cost of the model"),
    ],
)
def test_a_second_objective_that_is_none_is_refused_with_those_there_are(
    make_study: Callable[..., Study], text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Overrides(second_objective=text).apply(make_study())
    assert caught.value.exit_code == 2


def test_a_cost_is_no_first_objective(make_study: Callable[..., Study]) -> None:
    with pytest.raises(ValueError, match=r"unknown objective 'model/num_parameters'.* Known: val/accuracy, "):
        make_study(objective=SIZE)


def test_the_command_line_names_a_second_objective_that_stays(make_study: Callable[..., Study]) -> None:
    first = Overrides(second_objective="model/num_parameters")
    assert first.apply(make_study()) == make_study(second_objective=SIZE)
    again = Overrides(pruner="none", sampler="nsga2").over(first)
    assert again.apply(make_study()).objectives == (ACCURACY, SIZE)
    second = Overrides(second_objective="val/loss:minimize").apply(make_study()).second_objective
    assert second is not None
    assert second.metric == "val/loss"


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_pruners_are_refused_as_optuna_takes_no_intermediate_values(study: Study, pruner: str) -> None:
    with pytest.raises(UsageError, match=f"no intermediate values with two objectives, got --pruner {pruner}"):
        Overrides(pruner=pruner).apply(study)


def test_cmaes_is_refused(study: Study) -> None:
    with pytest.raises(UsageError, match="cmaes of Optuna searches for one objective only, got two; give default, tpe"):
        Overrides(sampler="cmaes").apply(study)


# going on


@pytest.mark.parametrize("allow_space_change", [False, True])
def test_a_run_does_not_go_on_with_another_objective(
    make_study: Callable[..., Study], study: Study, tmp_path: Path, allow_space_change: bool
) -> None:
    options = RunOptions(storage=tmp_path, name="run", resume=True, allow_space_change=allow_space_change)
    identity = Identity(run_id="abc", study_name="small")
    save_record(options.run_folder, StudyRecord(study=make_study().to_json(), identity=identity, data_digest=""))
    with contextlib.ExitStack() as stack:
        assert enter_run(make_study(), options, stack)[1] == identity
    with contextlib.ExitStack() as stack, pytest.raises(UsageError, match=r"second_objective: null -> not there\n"):
        enter_run(study, options, stack)


def test_trials_that_fit_a_changed_space_keep_both_values(study: Study, tmp_path: Path) -> None:
    storage = InMemoryStorage()
    strategy = create_strategy(study, storage, "small")
    number, params = strategy.propose() or pytest.fail("nothing is proposed")
    path = RunFolder(tmp_path).trial(number).config
    path.parent.mkdir(parents=True)
    save_config(path, number, study.trial_config(params, number), INFO, params)
    strategy.tell(end(number, 0.5, 1000.0))
    wider = dataclasses.replace(study, space={**study.space, "training.epochs": IntDistribution(2, 20)})
    after = create_strategy(wider, storage, change_space(wider, storage, "small", RunFolder(tmp_path)))
    assert [(result.value, result.second_value) for result in after.results()] == [(0.5, 1000.0)]
    number, _ = after.propose() or pytest.fail("nothing is proposed")
    assert number == 1
