"""What is told of a trial: why it was proposed, what was expected, where it stood, what it cost, why it failed."""

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from raysweep.commands.show import show
from raysweep.errors import UsageError
from raysweep.report.run_view import RunView, load_view
from raysweep.run_folder import RunFolder
from raysweep.runs.trial_account import TrialAccount, describe_account, give_account
from raysweep.search.session.lock import hold_lock
from raysweep.search.session.storage import open_storage

FAILING = 6
"""Number of the trial that fails in the run of the fixture."""


@pytest.fixture(scope="module")
def view(run: RunFolder) -> RunView:
    return load_view(run)


@pytest.fixture(scope="module")
def accounts(view: RunView) -> list[TrialAccount]:
    return [give_account(view, trial.number) for trial in view.trials]


def test_where_each_point_comes_from(accounts: list[TrialAccount]) -> None:
    origins = [account.origin.by for account in accounts]
    assert origins == ["baseline", "study", *["random"] * 4, *["model"] * 14]


def test_what_the_model_expected_is_in_the_objective_s_unit(accounts: list[TrialAccount]) -> None:
    for account in accounts:
        origin = account.origin
        assert (origin.expected is not None) == (origin.by == "model")
        if origin.expected is not None and origin.low is not None and origin.high is not None:
            assert origin.low < origin.expected < origin.high
            assert 0.3 < origin.expected < 1.1
            assert f"it expected val/accuracy {origin.expected:.4f}" in describe_account(account)
    late = [account for account in accounts[8:] if account.state == "COMPLETE"]
    assert len(late) >= 2
    for account in late:  # the curves have no noise: by now the model is right
        assert account.value is not None
        assert account.origin.low is not None
        assert account.origin.high is not None
        assert account.origin.low <= account.value <= account.origin.high
        assert "and so it came out" in describe_account(account)


def test_a_trial_that_was_stopped_is_compared_at_its_last_epoch(view: RunView, accounts: list[TrialAccount]) -> None:
    stopped = [account for account in accounts if account.state == "PRUNED"]
    assert len(stopped) > 5
    trials = {trial.number: trial for trial in view.trials}
    for account in stopped:
        standing, mine = account.standing, trials[account.number]
        assert standing is not None
        epoch = standing.epoch
        assert epoch == mine.last_step
        # They ran one after the other, and the curves rise: each value is the best until then.
        values = [
            trials[number].intermediate_values[epoch]
            for number in range(account.number)
            if epoch in trials[number].intermediate_values
        ]
        assert standing.num_trials == len(values) + 1
        assert standing.rank == 1 + sum(value > standing.value for value in values)
        before = [trials[number] for number in range(account.number) if trials[number].state == TrialState.COMPLETE]
        assert standing.best == max(trial.values[0] for trial in before)
        assert standing.probability is not None
        assert standing.probability < 0.1
        assert f"place {standing.rank} of the {standing.num_trials} trials" in describe_account(account)
    assert all(account.standing is None for account in accounts if account.state != "PRUNED")


def test_a_failure_has_its_cause_and_the_way_to_the_traceback(run: RunFolder, accounts: list[TrialAccount]) -> None:
    account = accounts[FAILING]
    assert (account.state, account.error, account.rank) == ("FAIL", "train/loss is nan", None)
    assert account.traceback == str(run.trial(FAILING).error)
    assert "failed: train/loss is nan" in describe_account(account)


def test_a_trial_s_cost_and_place(accounts: list[TrialAccount]) -> None:
    assert sum(account.cost.share or 0.0 for account in accounts) == pytest.approx(1.0)
    for account in accounts:
        assert account.cost.duration_s == account.cost.num_epochs
        assert account.cost.images_per_s == 100.0
        assert account.cost.data_wait_s == pytest.approx(0.1 * account.cost.num_epochs)
    complete = [account for account in accounts if account.state == "COMPLETE"]
    by_rank = sorted(complete, key=lambda account: account.rank or 0)
    assert [account.rank for account in by_rank] == list(range(1, len(complete) + 1))
    values = [account.value or 0.0 for account in by_rank]
    assert values == sorted(values, reverse=True)


def test_the_command_prints_text_or_json(run: RunFolder) -> None:
    text = CliRunner().invoke(show, [str(run.path), "0"]).stdout
    assert text.startswith("trial 0: complete, val/accuracy ")
    assert "proposed: it is the baseline" in text
    values = json.loads(CliRunner().invoke(show, [str(run.path), "1", "--json"]).stdout)
    assert values["origin"]["by"] == "study"
    assert values["params"]["task.learning_rate"] == 0.0005
    assert values["baseline_params"]["task.learning_rate"] == 0.001


def test_a_trial_that_there_is_not_is_refused_with_those_there_are(view: RunView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no trial 77; it has: 0 to 19"):
        give_account(view, 77)
    with pytest.raises(UsageError, match="is not the folder of a run"):
        load_view(RunFolder(tmp_path))


def test_a_running_trial_and_points_added_by_hand(tmp_path: Path, make_run: Callable[..., RunFolder]) -> None:
    run = make_run(tmp_path / "run", num_trials=3, end="trial")
    study = optuna.load_study(study_name="small", storage=open_storage(run, None))
    study.enqueue_trial({"task.learning_rate": 0.002, "task.optimizer": "sgd", "training.epochs": 9})
    trial = study.ask()
    assert trial.suggest_float("task.learning_rate", 1e-4, 1e-2, log=True) == 0.002
    view = load_view(run)
    added = give_account(view, 3)
    assert added.origin.by == "added"
    assert "task.learning_rate=0.002" in added.origin.text
    running = give_account(view, 2)
    assert (running.state, running.value, running.cost.duration_s) == ("RUNNING", 0.3, None)
    assert describe_account(running).startswith("trial 2: interrupted, val/accuracy 0.3000; 1 of ")
    with hold_lock(run):
        running = give_account(load_view(run), 2)
    assert describe_account(running).startswith("trial 2: running, val/accuracy 0.3000; 1 of ")


def test_a_run_from_before_reasons_were_kept_has_all_else(tmp_path: Path, make_run: Callable[..., RunFolder]) -> None:
    run = make_run(tmp_path / "run", num_trials=12)
    lines = run.journal.read_text().splitlines(keepends=True)
    run.journal.write_text("".join(line for line in lines if '"proposal"' not in line and '"stopped"' not in line))
    view = load_view(run)
    accounts = [give_account(view, trial.number) for trial in view.trials]
    assert {account.origin.by for account in accounts} == {"baseline", "study", "sampler"}
    assert "the default sampler proposed it; what it expected was not kept" in describe_account(accounts[9])
    stopped = next(account for account in accounts if account.state == "PRUNED")
    assert stopped.standing is not None
    assert stopped.standing.probability is None
    assert "trials that came as far" in describe_account(stopped)
