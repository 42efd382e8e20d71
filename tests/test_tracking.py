"""Weights & Biases without network: offline runs are whole, an unreachable server stops nothing, no key is stored."""

import threading
from pathlib import Path
from typing import Literal

import pytest

from raysweep import atomic_files
from raysweep.config import Objective
from raysweep.data.images import DataInfo
from raysweep.evaluate.test_figures import TestFigures
from raysweep.run_folder import RunFolder
from raysweep.search.results import Machine, Results
from raysweep.tracking import Tracker, default_mode
from raysweep.trial_result import TrialResult

KEY = "0123456789abcdef" * 2 + "01234567"


def build_results(trials: list[TrialResult]) -> Results:
    figures = {"num_images": 4, "report": "report.txt", "headline": "", "lift": {"text": ""}, "accuracy": 0.5}
    return Results(
        study="small",
        objective=Objective(metric="val/accuracy"),
        trials=tuple(trials),
        best=trials[0],
        baseline=trials[0],
        test=TestFigures.from_json(figures),
        data=DataInfo(source="drawn", synthetic=True, digest="", classes=("a",), num_train=8, num_val=4, num_test=4),
        machine=Machine(processor="x86_64", num_nodes=1, num_cpus=2, num_gpus=0),
        duration_s=1.0,
    )


def follow(tracker: Tracker, folder: Path) -> None:
    run_folder = RunFolder(folder)
    atomic_files.write_text(run_folder.best.weights, "weights")
    atomic_files.write_text(run_folder.test / "report.txt", "text")
    trials = []
    states: tuple[Literal["COMPLETE", "FAIL"], ...] = ("COMPLETE", "FAIL")
    for number, state in enumerate(states):
        tracker.trial_started(number, {"training": {"epochs": 2}}, {"task.learning_rate": 0.1})
        tracker.epoch_ended(number, {"epoch": 1.0, "val/accuracy": 0.5})
        trials.append(
            TrialResult(
                number=number,
                state=state,
                value=0.5 if state == "COMPLETE" else None,
                best_epoch=1,
                params={"task.learning_rate": 0.1},
                duration_s=1.0,
                error=None if state == "COMPLETE" else "TrialError: NaN",
            )
        )
        tracker.trial_ended(trials[-1])
    tracker.search_ended(build_results(trials))


def test_offline_leaves_a_run_for_each_trial_and_one_for_the_study(tmp_path: Path) -> None:
    tracker = Tracker("offline", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=["synthetic"])
    follow(tracker, tmp_path)
    assert tracker.problem is None
    names = sorted(path.name for path in (tmp_path / "wandb").glob("offline-run-*"))
    assert [name.split("-", 3)[3] for name in names] == ["abc-0000", "abc-0001", "abc-study"]
    for name in names:
        assert list((tmp_path / "wandb" / name).glob("*.wandb")), name
    assert tracker.sync_command == f"wandb sync {tmp_path}/wandb/offline-run-*"


def test_an_unreachable_server_ends_in_offline_runs_and_the_key_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr("raysweep.tracking.CHECK_TIMEOUT_S", 2)
    assert default_mode() == "online"
    tracker = Tracker("online", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=[])
    follow(tracker, tmp_path)
    assert "runs are kept offline" in capsys.readouterr().err
    assert tracker.sync_command is not None
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 3
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_search_that_is_interrupted_leaves_no_open_run(tmp_path: Path) -> None:
    tracker = Tracker("offline", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=[])
    tracker.trial_started(0, {}, {})
    tracker.close()
    tracker.close()  # as the search's exit stack does after an end
    assert tracker.problem is None
    assert not [thread for thread in threading.enumerate() if thread.name == "tracker"]
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
    assert not tracker._runs


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    follow(Tracker("disabled", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=[]), tmp_path)
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_wandb_mode_decides_first(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert default_mode() == mode


def test_finalists_have_runs_beside_those_of_the_trials_with_their_numbers(tmp_path: Path) -> None:
    tracker = Tracker("offline", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=[])
    for prefix in ("", "finalist-"):
        tracker.prefix = prefix
        tracker.trial_started(0, {}, {})
        result = TrialResult(number=0, state="COMPLETE", value=0.5, best_epoch=1, params={}, duration_s=1.0)
        tracker.trial_ended(result)
    RunFolder(tmp_path).best.path.mkdir()
    tracker.search_ended(build_results([result]))
    names = sorted(path.name.split("-", 3)[3] for path in (tmp_path / "wandb").glob("offline-run-*"))
    assert names == ["abc-0000", "abc-finalist-0000", "abc-study"]
