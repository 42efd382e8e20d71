"""The default sampler and pruner over real Optuna studies: what they propose and stop, from what is stored alone."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from raysweep.commands import COMMANDS
from raysweep.config import Budget, Objective, TrainingConfig
from raysweep.search.strategy import curve_model as curves
from raysweep.search.strategy.pruners import PRUNERS, build_pruner
from raysweep.search.strategy.pruners.curve import is_look
from raysweep.search.strategy.reasons import PROPOSAL, STOPPED
from raysweep.search.strategy.samplers import SAMPLERS, build_sampler
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_result import Params, TrialResult


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    """More epochs and trials than elsewhere."""
    space = {
        "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "task.optimizer": CategoricalDistribution(("adam", "sgd")),
        "training.batch_size": IntDistribution(16, 256, log=True),
        "training.epochs": IntDistribution(6, 20),
    }
    return make_study(training=TrainingConfig(epochs=12), space=space, budget=Budget(trials=24))


def open_study(study: Study, storage: Any = None, sampler: str = "default", pruner: str = "default") -> optuna.Study:
    return optuna.create_study(
        study_name="s",
        storage=storage,
        direction=study.objective.direction,
        sampler=build_sampler(sampler, study),
        pruner=build_pruner(pruner, study),
        load_if_exists=True,
    )


def value_after(params: Params, epoch: int) -> float:
    """A curve that rises to an end that is best at a learning rate of 1e-3 and with many epochs."""
    end: float = 0.9 - 0.3 * abs(math.log10(params["task.learning_rate"]) + 3) + 0.002 * params["training.epochs"]
    epochs: int = params["training.epochs"]
    return end - 0.4 * math.exp(-5 * epoch / epochs)


def propose(strategy: Strategy) -> tuple[int, Params]:
    proposal = strategy.propose()
    assert proposal is not None
    return proposal


def run(strategy: Strategy, num: int, sign: float = 1.0) -> list[tuple[Params, int]]:
    """Runs `num` trials one after the other; each trial's parameters and the epochs it came to."""
    done = []
    for _ in range(num):
        number, params = propose(strategy)
        epochs, stop = 0, False
        while not stop and epochs < params["training.epochs"]:
            epochs += 1
            stop = strategy.report(number, epochs, sign * value_after(params, epochs))
        strategy.tell(
            TrialResult(
                number=number,
                state="PRUNED" if stop else "COMPLETE",
                value=sign * value_after(params, epochs),
                best_epoch=epochs,
                params=params,
                duration_s=1.0,
            )
        )
        done.append((params, epochs))
    return done


def test_every_point_is_in_the_space(study: Study) -> None:
    study = dataclasses.replace(study, budget=Budget(trials=100))
    for params, _ in run(Strategy(study, open_study(study)), 30):
        space = study.space_at(params)
        assert set(params) == set(space)
        for key, distribution in space.items():
            assert distribution._contains(distribution.to_internal_repr(params[key])), (key, params[key])


def test_it_finds_what_is_good_and_stops_what_is_not(study: Study) -> None:
    done = run(Strategy(study, open_study(study)), 24)
    late = [abs(math.log10(params["task.learning_rate"]) + 3) for params, _ in done[-8:]]
    assert np.median(late) < 0.2  # of a random point: 0.5
    stopped = [params for params, epochs in done if epochs < params["training.epochs"]]
    weak = [params for params, _ in done if abs(math.log10(params["task.learning_rate"]) + 3) > 0.6]
    assert len(stopped) >= 6
    assert all(params in stopped for params in weak[2:])


def test_no_trial_is_stopped_in_its_first_epochs(study: Study) -> None:
    done = run(Strategy(study, open_study(study)), 20)
    assert min(epochs for _, epochs in done) >= curves.GRACE_EPOCHS


def test_the_best_value_is_a_complete_trial_s(study: Study) -> None:
    optuna_study = open_study(study)
    run(Strategy(study, optuna_study), 24)
    best = max(optuna_study.trials, key=lambda trial: max(trial.intermediate_values.values()))
    assert best.state == TrialState.COMPLETE


def test_the_baseline_is_not_stopped_however_weak(study: Study) -> None:
    optuna_study = open_study(study)
    optuna_study.enqueue_trial({**study.baseline, "task.learning_rate": 1e-4})
    strategy = Strategy(study, optuna_study)
    number, params = propose(strategy)
    run(strategy, 12)
    assert not any(strategy.report(number, epoch, 0.01) for epoch in range(1, params["training.epochs"]))


def test_up_and_down_are_mirror_images(study: Study) -> None:
    down = dataclasses.replace(study, objective=Objective(metric="val/accuracy", direction="minimize"))
    assert run(Strategy(study, open_study(study)), 16) == run(Strategy(down, open_study(down)), 16, sign=-1.0)


def test_why_trials_were_proposed_and_stopped_is_written_down(study: Study) -> None:
    """In the objective's own unit: of a study that is the mirror image, too."""
    down = dataclasses.replace(study, objective=Objective(metric="val/accuracy", direction="minimize"))
    above, below = open_study(study), open_study(down)
    above.enqueue_trial(study.baseline)
    below.enqueue_trial(study.baseline)
    run(Strategy(study, above), 16)
    run(Strategy(down, below), 16, sign=-1.0)
    notes, mirrored = ([trial.user_attrs.get(PROPOSAL) for trial in each.trials] for each in (above, below))
    assert [note and note["by"] for note in notes] == [None, *["random"] * 7, *["model"] * 8]
    stopped = [trial for trial in above.trials if trial.state == TrialState.PRUNED]
    assert stopped
    for trial in stopped:
        assert trial.user_attrs[STOPPED]["epoch"] == trial.last_step
        assert 0 <= trial.user_attrs[STOPPED]["probability"] < 0.1
    for note, other in zip(notes[8:], mirrored[8:], strict=True):
        assert note is not None
        assert other is not None
        assert note["low"] < note["expected"] < note["high"]
        assert [note["expected"], note["low"]] == pytest.approx([-other["expected"], -other["high"]], rel=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_model_s_scale_leads_back_to_the_objective(sign: float) -> None:
    values = np.array([-1e6, 0.1, 0.5, 0.7, 0.71, 0.9])
    scaled, scale = curves._normalize(values, values, sign)
    np.testing.assert_allclose(scale.restore(scaled), sign * values, rtol=1e-9)
    assert not np.isfinite(scale.restore(np.array([-1e6]))).all()


def test_decisions_come_from_the_stored_study_alone(study: Study, tmp_path: Path) -> None:
    """A search that a new process takes over in between goes on exactly as one that was not interrupted."""

    def storage(name: str) -> JournalStorage:
        return JournalStorage(JournalFileBackend(str(tmp_path / name)))

    whole = run(Strategy(study, open_study(study, storage("whole"))), 18)
    parts = []
    for num in (7, 4, 7):
        parts += run(Strategy(study, open_study(study, storage("parts"))), num)
    assert parts == whole


def test_seeds_differ(study: Study) -> None:
    first = run(Strategy(study, open_study(study)), 3)
    other = dataclasses.replace(study, seed=1)
    assert first != run(Strategy(other, open_study(other)), 3)


def test_parallel_proposals_differ(study: Study) -> None:
    strategy = Strategy(study, open_study(study))
    run(strategy, 10)
    rates = [propose(strategy)[1]["task.learning_rate"] for _ in range(6)]
    assert len({round(math.log10(rate), 3) for rate in rates}) == 6


def test_failed_trials_and_odd_values_are_no_trouble(study: Study) -> None:
    strategy = Strategy(study, open_study(study))
    ends: list[tuple[Any, float | None]] = [("FAIL", None), ("COMPLETE", 0.5), ("PRUNED", 0.5)]
    for index in range(20):
        number, params = propose(strategy)
        assert set(params) == set(study.space_at(params))
        value = [math.inf, -math.inf, 1e30, 0.5, 0.5][index % 5]
        for epoch in range(1, 5):
            strategy.report(number, epoch, value)
        state, kept = ends[index % 3]
        strategy.tell(TrialResult(number=number, state=state, value=kept, best_epoch=1, params=params, duration_s=1.0))


@pytest.mark.parametrize("epochs", [0, 4])
def test_where_trials_failed_few_are_proposed(study: Study, epochs: int) -> None:
    """Every trial with SGD fails, before its first epoch is done or when it looked well."""
    strategy = Strategy(study, open_study(study))
    proposed = []
    for _ in range(24):
        number, params = propose(strategy)
        proposed.append(params["task.optimizer"])
        fails = params["task.optimizer"] == "sgd"
        for epoch in range(1, 1 + (epochs if fails else params["training.epochs"])):
            strategy.report(number, epoch, 0.3 * fails + value_after(params, epoch))
        state: Any = "FAIL" if fails else "COMPLETE"
        value = None if fails else value_after(params, params["training.epochs"])
        strategy.tell(TrialResult(number=number, state=state, value=value, best_epoch=1, params=params, duration_s=1.0))
    assert proposed[:8].count("sgd") >= 2
    assert proposed[8:].count("sgd") <= 3


def test_a_long_trial_is_judged_by_its_end(study: Study) -> None:
    """After as many epochs it is far behind the short ones, and with as much of its training done as good as they."""
    optuna_study = open_study(study)
    strategy = Strategy(study, optuna_study)
    point = {"task.optimizer": "adam", "training.batch_size": 64}
    for rate in (3e-4, 5e-4, 8e-4, 1e-3, 1.2e-3, 2e-3):
        optuna_study.enqueue_trial({**point, "task.learning_rate": rate, "training.epochs": 6})
    run(strategy, 6)
    optuna_study.enqueue_trial({**point, "task.learning_rate": 1e-3, "training.epochs": 20})
    number, params = propose(strategy)
    short = {**params, "training.epochs": 6}
    assert value_after(params, 4) < value_after({**short, "task.learning_rate": 8e-4}, 4)
    assert not any(strategy.report(number, epoch, value_after(params, epoch)) for epoch in range(1, 7))


def test_the_fitted_history_is_bounded(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MAX_OBSERVATIONS", 20)
    study = dataclasses.replace(study, budget=Budget(trials=100))
    optuna_study = open_study(study)
    run(Strategy(study, optuna_study), 25)
    running = optuna_study.ask(dict(study.space))
    for epoch in range(1, 5):
        running.report(0.3, epoch)
    final = curves.CurveModel(study).predict_final_values(optuna_study)
    assert final is not None
    assert len(final.posterior.points) <= 20
    assert running.number in [curve.number for curve in final.curves]
    best = max(optuna_study.get_trials(states=(TrialState.COMPLETE,)), key=lambda trial: trial.value or 0)
    assert best.number in [curve.number for curve in final.curves]


def test_looks_grow() -> None:
    assert [epoch for epoch in range(1, 20) if is_look(epoch)] == [3, 4, 5, 6, 8, 10, 12, 15, 19]


@pytest.mark.parametrize("sampler", SAMPLERS.built_in)
def test_every_sampler_proposes_points(study: Study, sampler: str) -> None:
    done = run(Strategy(study, open_study(study, sampler=sampler, pruner="none")), 12)
    assert all(set(params) == set(study.space_at(params)) for params, _ in done)


@pytest.mark.parametrize("pruner", PRUNERS.built_in)
def test_every_pruner_but_none_stops_weak_trials(study: Study, pruner: str) -> None:
    done = run(Strategy(study, open_study(study, sampler="random", pruner=pruner)), 24)
    stopped = sum(epochs < params["training.epochs"] for params, epochs in done)
    assert stopped == 0 if pruner == "none" else stopped > 4


def test_a_few_trials_all_run_to_their_ends(study: Study) -> None:
    few = dataclasses.replace(study, budget=Budget(trials=9))
    assert all(epochs == params["training.epochs"] for params, epochs in run(Strategy(few, open_study(few)), 9))
    done = run(Strategy(study, open_study(study)), 24)
    assert any(epochs < params["training.epochs"] for params, epochs in done)


def test_a_space_that_is_all_fixed_runs_its_one_point_again_and_again(study: Study) -> None:
    study = dataclasses.replace(study, space={}, conditions=())
    strategy = Strategy(study, open_study(study))
    for expected in range(3):
        number, params = propose(strategy)
        assert (number, params) == (expected, {})
        assert not any(strategy.report(number, epoch, 0.5 - number / 10) for epoch in range(1, 8))


def test_the_command_line_offers_every_name() -> None:
    text = {
        option.name: option.help or "" for option in COMMANDS.load("tune").params if isinstance(option, click.Option)
    }
    assert all(name in text["sampler"] for name in SAMPLERS.built_in)
    assert all(name in text["pruner"] for name in PRUNERS.built_in)
