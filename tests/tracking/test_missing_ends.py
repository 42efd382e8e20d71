"""Trials whose ends no tracker heard of: the next session tells them, from what lies in the trials' folders."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made as it is imported

from raysweep.config import DataConfig, TrainingConfig
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tracking.backend import Backend, TrackedRun
from raysweep.tracking.mlflow_runs import MlflowRuns
from raysweep.tracking.tensorboard_events import TensorboardEvents
from raysweep.tracking.tracker import Tracker
from raysweep.tracking.wandb_log import has_summary, read_records
from raysweep.tracking.wandb_runs import WandbRuns
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import save_config
from raysweep.trial_result import TrialResult

Build = Callable[[Path], TrackedRun]
Train = Callable[..., TrialResult]
CONFIG = TrialConfig(
    task=ClassificationConfig(model="fashion_cnn"), data=DataConfig(image_size=32), training=TrainingConfig(epochs=4)
)


class Deaf(Backend):
    """Records nothing."""

    title = "deaf"


def go_on(build: Callable[[], Backend], train: Train) -> None:
    """Follows a search of three trials that all ended, the last of which failed, in two sessions.

    The first session's tracker heard neither of the last two epochs of trial 1 and its end, nor of trial 2.
    """
    before = Tracker(build())
    first = train(before, 0)
    train(before, 1, ends=False)
    before.close()
    deaf = Tracker(Deaf(before.backend.run))
    ended = [first, train(deaf, 1, epochs=(3, 4)), train(deaf, 2, "FAIL")]
    deaf.close()
    run = before.backend.run
    for result in ended:
        save_config(run.folder.trial(result.number).config, result.number, CONFIG, run.data, result.params)
    time.sleep(1.1)  # W&B names the folder of a part after the second in which it begins
    after = Tracker(build(), ended)
    after.close()
    assert (before.backend.problem, after.backend.problem) == (None, None)


def test_wandb_ends_the_trials_that_it_has_files_of_and_uploads_none_twice(
    tmp_path: Path, tracked_run: Build, train: Train
) -> None:
    go_on(lambda: WandbRuns(tracked_run(tmp_path), "offline"), train)
    parts = {number: sorted(tmp_path.glob(f"wandb/*-abc-{number:04d}/*.wandb")) for number in range(3)}
    assert [len(files) for files in parts.values()] == [1, 2, 0], "of trial 2 it may have been uploaded and removed"
    before, after = map(list, map(read_records, parts[1]))
    assert [read_steps(before), read_steps(after)] == [[1, 2], [3, 4]]
    assert not has_summary(parts[1][:1], "state")
    summary = {item.key: item.value_json for record in after for item in record.summary.update if item.key}
    assert (summary["state"], summary["best_value"], summary["best_epoch"]) == ('"COMPLETE"', "0.4", "4")
    assert [record.exit.exit_code for record in after if record.HasField("exit")] == [0]
    (run,) = [record.run for record in after if record.HasField("run")]
    assert {"trial", "training", "task"} <= {update.key for update in run.config.update}
    assert WandbRuns(tracked_run(tmp_path), "offline").find_open(["0000", "0001", "0002"]) == []


def read_steps(records: list[Record]) -> list[int]:
    return [record.history.step.num for record in records if record.HasField("history")]


def test_wandb_ends_a_trial_whose_driver_was_killed(tmp_path: Path, tracked_run: Build, train: Train) -> None:
    """W&B's own process has written a part of the file, or none of it."""
    script = """
import os, sys, time
import wandb
run = wandb.init(
    project="raysweep", id="abc-0000", dir=sys.argv[1], mode="offline", settings=wandb.Settings(silent=True)
)
run.log({"epoch": 1, "val/accuracy": 0.1}, step=1, commit=True)
time.sleep(0.5)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    deaf = Tracker(Deaf(tracked_run(tmp_path)))
    result = train(deaf, 0)
    deaf.close()
    time.sleep(1.1)  # W&B names the folder of a part after the second in which it begins
    tracker = Tracker(WandbRuns(tracked_run(tmp_path), "offline"), [result])
    tracker.close()
    assert tracker.backend.problem is None
    parts = sorted(tmp_path.glob("wandb/*-abc-0000/*.wandb"))
    assert sorted(step for path in parts for step in read_steps(list(read_records(path)))) == [1, 2]
    assert [has_summary([path], "state") for path in parts][-1:] == [True]


@pytest.mark.parametrize("uri", ["", "file:{}/mlruns"], ids=["database", "file store"])
def test_mlflow_ends_all(
    uri: str, tmp_path: Path, tracked_run: Build, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow 3.17 refuses it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path))
    go_on(lambda: MlflowRuns(tracked_run(tmp_path / "run")), train)
    client = MlflowClient(uri.format(tmp_path) or f"sqlite:///{tmp_path}/run/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("raysweep")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in sorted(runs.items())} == {
        "small-0000": "FINISHED",
        "small-0001": "FINISHED",
        "small-0002": "FAILED",
        "small-study": "KILLED",
    }
    history = client.get_metric_history(runs["small-0001"].info.run_id, "val/accuracy")
    assert sorted((each.step, each.value) for each in history) == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert runs["small-0001"].data.metrics["best_value"] == 0.4
    assert runs["small-0002"].data.tags["raysweep.error"] == "TrialError: NaN"
    assert runs["small-study"].data.metrics["trials/ended"] == 3
    assert [file.path for file in client.list_artifacts(runs["small-0002"].info.run_id)] == ["config.json"]


def test_mlflow_leaves_a_run_that_somebody_deleted(
    tmp_path: Path, tracked_run: Build, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = Tracker(MlflowRuns(tracked_run(tmp_path)))
    ended = [train(before, 0)]
    before.close()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    (run,) = client.search_runs(["1"], "attributes.run_name = 'small-0000'")
    client.delete_run(run.info.run_id)
    Tracker(MlflowRuns(tracked_run(tmp_path)), ended).close()
    assert client.search_runs(["1"], "attributes.run_name = 'small-0000'") == []


def test_tensorboard_writes_those_anew_that_lack_the_end_and_leaves_the_others(
    tmp_path: Path, tracked_run: Build, train: Train
) -> None:
    go_on(lambda: TensorboardEvents(tracked_run(tmp_path)), train)
    trials = {number: EventAccumulator(str(tmp_path / "tensorboard" / f"{number:04d}")).Reload() for number in range(3)}
    steps = {number: [event.step for event in events.Scalars("val/accuracy")] for number, events in trials.items()}
    assert steps == {0: [1, 2], 1: [1, 2, 3, 4], 2: [1, 2]}
    assert all("result/text_summary" in events.Tags()["tensors"] for events in trials.values())
    backend = TensorboardEvents(tracked_run(tmp_path))
    backend.open()
    assert backend.find_open(["0000", "0001", "0002", "0003"]) == ["0003"]
    backend.close()


def test_a_tracker_that_is_new_to_the_run_is_not_told_of_trials_before_it(
    tmp_path: Path, tracked_run: Build, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many of these would hold up what is happening now."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    deaf = Tracker(Deaf(tracked_run(tmp_path)))
    ended = [train(deaf, 0)]
    deaf.close()
    run = tracked_run(tmp_path)
    for backend in (MlflowRuns(run), TensorboardEvents(run), WandbRuns(run, "offline")):
        Tracker(backend, ended).close()
        assert backend.problem is None
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["study"]
    assert not list(tmp_path.glob("wandb/*-abc-0000"))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    assert [run.info.run_name for run in client.search_runs(["1"])] == ["small-study"]


def test_a_finalist_s_end_is_told_too(tmp_path: Path, tracked_run: Build, train: Train) -> None:
    build = lambda: Tracker(TensorboardEvents(tracked_run(tmp_path)))  # noqa: E731
    before = build()
    chosen = [train(before, 0)]
    before.begin_finalists(chosen)
    training = train(before, 0, ends=False)
    before.close()
    after = build()
    after.begin_finalists(chosen, [training])
    after.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "finalist-0000")).Reload()
    assert "result/text_summary" in events.Tags()["tensors"]
