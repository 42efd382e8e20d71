"""What may be deleted of runs: never what a command needs, nothing without --yes, nothing of a run in use."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from raysweep import config_fields
from raysweep.commands.clean import clean as command
from raysweep.data.images import DataInfo
from raysweep.errors import UsageError
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder, cache_folder
from raysweep.runs import cleaning
from raysweep.runs.cleaning import clean
from raysweep.runs.listing import describe_run
from raysweep.search.results import FinalistRecord, FinalistsRecord, load_results, save_results
from raysweep.search.session.lock import hold_lock
from raysweep.tasks.classification.config import ClassificationConfig

FAILING = 6
MakeRun = Callable[..., RunFolder]


def list_files(folder: Path) -> set[str]:
    """All files but that of a run's lock, which is made by who takes it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lease"}


@pytest.fixture
def copied(run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the finished run of 20 trials, alone in its storage."""
    return RunFolder(Path(shutil.copytree(run.path, tmp_path / "storage" / "cars")))


def keep_decoded(storage: Path, key: str, digest: str, *others: str) -> Path:
    folder = cache_folder(storage) / key
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / split / "images.npy").write_bytes(b"i" * 100)
    test = folder.with_name(f"{key}-test")
    test.mkdir()
    (test / "images.npy").write_bytes(b"i" * 100)
    info = DataInfo(source="s", synthetic=True, digest=digest, classes=("a",), num_train=1, num_val=1, num_test=1)
    (folder / "info.json").write_text(json.dumps(config_fields.to_json(info)))
    for name in others:
        (folder / name).touch()
    return folder


def test_weights_of_finalists_that_did_not_win_may_go(copied: RunFolder) -> None:
    results = load_results(copied)
    best = results.best.number
    others = iter(number for number in range(1, 20) if number != best)
    trained = {0: (0, 1), best: (2, 3), next(others): (4, 5)}
    seeds: dict[str, Any] = {
        "search_value": 0.5,
        "values": (0.5, 0.6),
        "errors": (None, None),
        "mean": 0.55,
        "low": 0.5,
        "high": 0.6,
    }
    found = [
        FinalistRecord(trial=trial, params={}, trainings=numbers, optimism=None, **seeds)
        for trial, numbers in trained.items()
    ]
    lacks: dict[str, Any] = {"optimism": None, "lift": None}
    found[0] = dataclasses.replace(found[0], values=(0.5, None), mean=None)  # its other seed is still compared with
    record = FinalistsRecord(requested=2, seeds=2, intervals="", configurations=tuple(found), winner=best, **lacks)
    save_results(copied, dataclasses.replace(results, finalists=record))
    for number in range(6):
        (copied.finalists.trial(number).best).mkdir(parents=True)
        copied.finalists.trial(number).weights.write_bytes(b"w" * 100)
    going = {item.path for item in clean(copied.path, delete=False).items}
    folders = {number: copied.finalists.trial(number).best for number in range(6)}
    assert {number for number, path in folders.items() if path in going} == {4, 5}


def test_of_a_finished_run_all_weights_but_those_of_best_and_baseline_may_go(copied: RunFolder) -> None:
    before, best = list_files(copied.path), load_results(copied).best.number
    found = clean(copied.path, delete=False)
    assert list_files(copied.path) == before
    assert {item.path for item in found.items} == {
        copied.trial(FAILING).last,
        *(copied.trial(number).best for number in range(20) if number not in (0, best)),
    }
    assert found.size_bytes == 20_000
    deleted = clean(copied.path, delete=True)
    assert deleted.size_bytes == found.size_bytes
    gone = before - list_files(copied.path)
    assert len(gone) == 20
    assert all(name.startswith("trials/") and name.endswith(".safetensors") for name in gone)
    assert copied.best.weights.is_file()
    assert describe_run(copied).state == "finished"
    assert clean(copied.path, delete=False).items == []


def test_what_the_final_evaluation_compares_stays(copied: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group for each optimizer: the best trial of each stays."""
    monkeypatch.setattr(ClassificationConfig, "comparison_group", property(lambda self: self.optimizer))
    trials = [trial for trial in load_results(copied).trials if trial.state != "FAIL"]
    best = {
        name: max((t for t in trials if t.params["task.optimizer"] == name), key=lambda trial: trial.value or 0.0)
        for name in ("adam", "sgd")
    }
    offered = {item.path for item in clean(copied.path, delete=False).items}
    assert {copied.trial(trial.number).best for trial in best.values()}.isdisjoint(offered)
    assert len(offered) >= 17


def test_of_an_unfinished_run_only_failed_trials_and_leftovers_may_go(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "run", num_trials=9, end="trial")
    run.scratch.mkdir()
    (run.trial(8).path / ".metrics.jsonl.0123abcd").touch()
    (run.trial(8).last / "checkpoint.safetensors.damaged").touch()
    clean(run.path, delete=True)
    assert run.trial(8).checkpoint.is_file()
    assert [trial.number for trial in run.list_trials() if trial.weights.is_file()] == [0, 1, 2, 3, 4, 5, 7]
    assert not run.trial(FAILING).last.exists()
    assert not run.scratch.exists()
    assert sorted(path.name for path in run.trial(8).path.rglob("*")) == [
        "checkpoint.safetensors",
        "config.json",
        "last",
    ]


def test_a_run_in_use_stays_as_it_is(copied: RunFolder) -> None:
    before = list_files(copied.path)
    with hold_lock(copied):
        for delete in (False, True):
            found = clean(copied.path, delete=delete)
            assert found.items == []
            assert "works" in found.passed_over[0]
    assert list_files(copied.path) == before


def test_a_damaged_run_and_the_images_that_it_may_need_stay(copied: RunFolder) -> None:
    keep_decoded(copied.storage, "0123", "d1")
    copied.results.write_text("{")
    before = list_files(copied.storage)
    found = clean(copied.storage, delete=True)
    assert found.items == []
    assert [reason.partition(":")[0] for reason in found.passed_over] == [str(copied.path), "decoded images"]
    assert list_files(copied.storage) == before


def test_decoded_images_go_unless_an_unfinished_run_needs_them(copied: RunFolder, make_run: MakeRun) -> None:
    storage = copied.storage
    make_run(storage / "under_way", digest="d2", num_trials=2, end="trial")
    free, needed = keep_decoded(storage, "0123", "d1"), keep_decoded(storage, "4567", "d2")
    judged = keep_decoded(storage, "89ab", "d1", "judge.safetensors", ".judge.safetensors.lock")
    downloads = cache_folder(storage) / "sample-cars"
    downloads.mkdir()
    found = clean(storage, delete=True)
    assert {item.path.name for item in found.items if item.kind == "decoded images"} == {"0123", "0123-test"}
    assert not free.exists()
    assert needed.is_dir()
    assert needed.with_name("4567-test").is_dir()
    assert judged.is_dir()
    assert downloads.is_dir()
    assert any("judge.safetensors" in reason for reason in found.passed_over)


def test_temporary_folders_of_a_storage_go_when_they_are_old(
    copied: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, decoding = copied.storage / ".plan-abc", cache_folder(copied.storage) / ".0123.0a1b2c3d"
    for path in (plan, decoding):
        path.mkdir(parents=True)
    assert not any(item.kind == "leftover" for item in clean(copied.storage, delete=False).items)
    monkeypatch.setattr(cleaning, "LEFTOVER_AGE_S", -1.0)
    left = {item.path for item in clean(copied.storage, delete=False).items if item.kind == "leftover"}
    assert left == {plan, decoding}


def test_a_link_is_not_followed(copied: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.safetensors").touch()
    shutil.rmtree(copied.trial(3).best)
    copied.trial(3).best.symlink_to(elsewhere)
    clean(copied.path, delete=True)
    assert (elsewhere / "precious.safetensors").is_file()


def test_replays_may_go(copied: RunFolder) -> None:
    replay = copied.replays.trial(4)
    replay.best.mkdir(parents=True)
    replay.config.touch()
    assert replay.path in {item.path for item in clean(copied.path, delete=False).items}


def test_the_command_deletes_with_yes_only(copied: RunFolder) -> None:
    before = list_files(copied.path)
    shown = CliRunner().invoke(command, [str(copied.storage)])
    assert "20 kB may be deleted; nothing is, without --yes" in shown.stdout
    assert "cars/trials/0006/last" in shown.stdout
    assert list_files(copied.path) == before
    done = json.loads(CliRunner().invoke(command, [str(copied.storage), "--yes", "--json"]).stdout)
    assert done["deleted"]
    assert done["size_bytes"] == 20_000
    assert len(list_files(copied.path)) < len(before)
    assert "there is nothing to delete" in CliRunner().invoke(command, [str(copied.storage)]).stdout
    assert load_view(copied).faults == ()


def test_what_is_neither_run_nor_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which is neither"):
        clean(tmp_path, delete=True)
