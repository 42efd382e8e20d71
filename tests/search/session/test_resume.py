"""What going on rests on, without Ray: storage, lock, overrides, changed studies."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep.config import Budget
from raysweep.data.images import DataInfo
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder
from raysweep.search.overrides import Overrides
from raysweep.search.session.identity import Identity, describe_changes, load_record, restore_identity
from raysweep.search.session.lock import hold_lock
from raysweep.search.session.opening import open_strategy
from raysweep.search.session.space_change import change_space
from raysweep.search.session.storage import open_storage
from raysweep.search.strategy.strategy import create_strategy
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.trial_record import save_config
from raysweep.trial_result import TrialResult

ROOT = Path(__file__).resolve().parents[3]
INFO = DataInfo(source="drawn", synthetic=True, digest="0" * 64, classes=("a", "b"), num_train=8, num_val=4, num_test=4)


# storage


def add_trials(path: Path, count: int) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(RunFolder(path), None), load_if_exists=True)
    for _ in range(count):
        study.tell(study.ask(), 0.5)


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_removed_before_the_next_is_written(tmp_path: Path, cut: int) -> None:
    add_trials(tmp_path, 3)
    journal = RunFolder(tmp_path).journal
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    add_trials(tmp_path, 2)
    for line in journal.read_text().splitlines():
        json.loads(line)
    trials = optuna.load_study(study_name="s", storage=open_storage(RunFolder(tmp_path), None)).trials
    assert [trial.number for trial in trials] == list(range(5))
    assert journal.read_bytes().startswith(whole[: whole[:-cut].rfind(b"\n") + 1])


def test_a_database_keeps_studies_and_a_wrong_url_is_wrong_usage(tmp_path: Path, study: Study) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    proposal = create_strategy(study, open_storage(RunFolder(tmp_path), url), "a").propose()
    assert proposal is not None
    assert create_strategy(study, open_storage(RunFolder(tmp_path), url), "a").propose() == proposal
    assert not RunFolder(tmp_path).journal.exists()
    for wrong in ("no url", f"sqlite:///{tmp_path}/no/folder/x.db", "nodb://user:secret@host/name"):
        with pytest.raises(UsageError, match="--optuna-storage") as caught:
            open_storage(RunFolder(tmp_path), wrong)
        assert "secret" not in str(caught.value)


# lock


HOLD_FOR_EVER = """
import pathlib, signal, sys
from raysweep.search.session.lock import hold_lock
from raysweep.run_folder import RunFolder
with hold_lock(RunFolder(pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    signal.pause()
"""


def test_a_second_driver_is_kept_out_until_the_first_is_dead(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLD_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"another driver works in .*{driver.pid}"), hold_lock(RunFolder(tmp_path)):
            pass
        driver.kill()
        driver.wait()
        for _ in range(2):
            with hold_lock(RunFolder(tmp_path)):
                assert json.loads(RunFolder(tmp_path).lock.read_text())["pid"] == os.getpid()


# what a session takes from the one before


def test_what_is_said_again_replaces_what_was_said_first() -> None:
    first = Overrides(trials=4, max_epochs=3, settings=("task.dropout=0.1", "task.width=2"), seed=7)
    again = Overrides(trials=9, settings=("task.dropout=0.3",)).over(first)
    assert again == Overrides(trials=9, max_epochs=3, settings=("task.dropout=0.3", "task.width=2"), seed=7)
    assert Overrides().over(again) == again
    assert Overrides(trials=9).over(Overrides(keep_checkpoints=10)).num_leading == 10, "no model is deleted by going on"


def test_overrides_change_the_study(study: Study) -> None:
    changed = Overrides(data="sample", trials=4, time_s=60, target=0.9, max_epochs=5, seed=3).apply(study)
    assert changed.budget == Budget(trials=4, time_s=60, target=0.9)
    assert changed.space["training.epochs"] == IntDistribution(3, 5)
    assert (changed.data.source, changed.seed) == ("sample", 3)
    assert Overrides().apply(study) == study
    with pytest.raises(UsageError, match="at least 1"):
        Overrides(trials=0).apply(study)


def test_a_password_is_not_stored_and_must_be_given_again(tmp_path: Path) -> None:
    identity = Identity(run_id="abc", study_name="s", storage_url="postgresql://me:secret@host/db")
    assert "secret" not in json.dumps(identity.to_json())
    stored = Identity.from_json(identity.to_json())
    with pytest.raises(UsageError, match="with its password"):
        restore_identity(stored, None, Overrides())
    assert restore_identity(stored, identity.storage_url, Overrides()) == identity
    with pytest.raises(UsageError, match="leave it out"):
        restore_identity(stored, "sqlite:////other.db", Overrides())


def test_a_folder_of_something_else_is_no_run(tmp_path: Path) -> None:
    assert load_record(RunFolder(tmp_path / "none")) is None
    assert load_record(RunFolder(tmp_path)) is None, "killed before anything was written"
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not the folder of a run"):
        load_record(RunFolder(tmp_path))


def test_trials_without_their_optuna_study_are_not_begun_anew(study: Study, tmp_path: Path) -> None:
    identity = Identity(run_id="abc", study_name="small")
    open_strategy(study, RunFolder(tmp_path), identity)
    (tmp_path / "trials").mkdir()
    open_strategy(study, RunFolder(tmp_path), identity)
    (RunFolder(tmp_path).journal).unlink()
    with pytest.raises(UsageError, match=r"Optuna study 'small' .* restore it"):
        open_strategy(study, RunFolder(tmp_path), identity)


# a changed study


def to_stored(study: Study) -> Any:
    return json.loads(json.dumps(study.to_json()))


def test_the_difference_is_named_key_by_key(study: Study) -> None:
    assert isinstance(study.task, ClassificationConfig)
    changed = dataclasses.replace(
        study,
        space={**study.space, "training.epochs": IntDistribution(2, 10)},
        task=dataclasses.replace(study.task, dropout=0.3),
        data=dataclasses.replace(study.data, source="elsewhere"),
        budget=Budget(trials=99),
    )
    changes = describe_changes(to_stored(study), changed)
    assert len(changes) == 2
    assert changes[1] == "task.dropout: 0.5 -> 0.3"
    assert changes[0].startswith("space.training.epochs: IntDistribution(")
    assert "low=3" in changes[0].partition("->")[0]
    assert "low=2" in changes[0].partition("->")[2]
    assert describe_changes(to_stored(study), study) == []
    fixed = study.with_settings(["task.optimizer=adam"])
    assert any(
        "task.optimizer" in line and "-> not there" in line for line in describe_changes(to_stored(study), fixed)
    )


def run_some(study: Study, run: Path) -> list[optuna.trial.FrozenTrial]:
    """Trials 0-5 COMPLETE, 6 PRUNED, 7 in flight; 8 asked for, but not begun."""
    strategy = create_strategy(study, open_storage(RunFolder(run), None), "small")
    for number in range(8):
        _, params = strategy.propose() or pytest.fail("nothing is proposed")
        save_config(RunFolder(run).trial(number).config, number, study.trial_config(params, number), INFO, params)
        strategy.report(number, 1, 0.1 * number)
        if number < 7:
            state: Any = "PRUNED" if number == 6 else "COMPLETE"
            result: dict[str, Any] = {"value": 0.1 * number, "best_epoch": 1, "duration_s": 1.0}
            strategy.tell(TrialResult(number=number, state=state, params=params, **result))
    strategy.propose()
    return strategy.optuna_study.trials


def test_trials_that_fit_are_taken_over_under_their_numbers(study: Study, tmp_path: Path) -> None:
    before = run_some(study, tmp_path)
    changed = dataclasses.replace(
        study,
        space={
            "task.learning_rate": FloatDistribution(1e-4, 1e-1, log=True),  # wider
            "task.optimizer": CategoricalDistribution(("adam", "adamw")),  # another choice
            "training.epochs": IntDistribution(2, 10),
            "task.dropout": FloatDistribution(0.0, 0.8),  # was 0.5 in all trials
        },
        conditions=(),
    )
    storage = open_storage(RunFolder(tmp_path), None)
    name = change_space(changed, storage, "small", RunFolder(tmp_path))
    strategy = create_strategy(changed, storage, name)
    after = strategy.optuna_study.trials
    assert [trial.number for trial in after] == list(range(8))
    fits = [trial.params["task.optimizer"] == "adam" for trial in before[:8]]
    assert 1 < sum(fits) < 8
    for old, new, fit in zip(before, after, fits, strict=False):
        assert new.state == (old.state if fit else optuna.trial.TrialState.FAIL)
        assert new.intermediate_values == old.intermediate_values
        assert new.params == ({**old.params, "task.dropout": 0.5} if fit else {})
        assert ("it was" in new.user_attrs.get("error", "")) == (not fit)
    proposals = []
    while (proposal := strategy.propose()) is not None:
        proposals.append(proposal[0])
    assert proposals == [*([7] if fits[7] else []), 8, 9, 10, 11]
    assert change_space(study, storage, name, RunFolder(tmp_path)) != name


def test_a_field_that_is_fixed_now_keeps_the_trials_with_that_value(study: Study, tmp_path: Path) -> None:
    before = run_some(study, tmp_path)
    fixed = study.with_settings(["task.optimizer=adam"])
    storage = open_storage(RunFolder(tmp_path), None)
    after = optuna.load_study(
        study_name=change_space(fixed, storage, "small", RunFolder(tmp_path)), storage=storage
    ).trials
    for old, new in zip(before, after, strict=False):
        expected = {key: value for key, value in old.params.items() if key != "task.optimizer"}
        assert new.params == (expected if old.params["task.optimizer"] == "adam" else {})


@pytest.mark.parametrize("setting", ["task.optimizer=sgd", "task.dropout=0.1", "data.image_size=28"])
def test_another_baseline_is_another_study(study: Study, tmp_path: Path, setting: str) -> None:
    run_some(study, tmp_path)
    with pytest.raises(UsageError, match="the baseline, does not fit"):
        change_space(
            study.with_settings([setting]), open_storage(RunFolder(tmp_path), None), "small", RunFolder(tmp_path)
        )
