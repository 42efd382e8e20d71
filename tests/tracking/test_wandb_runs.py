"""Weights & Biases offline: what its own files hold of a search, and each epoch once after a stop and a resume."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made as it is imported

from raysweep.search.results import Results
from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.tracker import Tracker
from raysweep.tracking.wandb_log import find_last_step, read_records
from raysweep.tracking.wandb_runs import WandbRuns
from raysweep.tracking.wandb_study import _build_predictions
from raysweep.trial_result import TrialResult

Build = Callable[[Path], TrackedRun]
Train = Callable[..., TrialResult]
Finish = Callable[[Tracker, list[TrialResult]], Results]


def read_parts(folder: Path, name: str) -> list[list[Record]]:
    """The records of each part of a run, the oldest part first."""
    return [list(read_records(path)) for path in sorted(folder.glob(f"wandb/offline-run-*-abc-{name}*/*-{name}.wandb"))]


def read_history(records: list[Record]) -> list[tuple[int, Mapping[str, Any]]]:
    """Step and values of each row."""
    rows = [record.history for record in records if record.HasField("history")]
    return [
        (row.step.num, {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item})
        for row in rows
    ]


def find(records: list[Record], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.HasField(kind)]


def test_each_epoch_stands_once_at_its_step_in_the_parts_of_a_resumed_trial(resumed: Path) -> None:
    stopped, resumed_part = read_parts(resumed, "0001")
    rows = [[(step, values["epoch"]) for step, values in read_history(part)] for part in (stopped, resumed_part)]
    assert rows == [[(1, 1), (2, 2)], [(3, 3), (4, 4), (5, 5)]], "the third is filled in from metrics.jsonl"


def test_the_study_s_run_lives_from_the_start_and_ends_with_what_was_found(resumed: Path) -> None:
    before, after = read_parts(resumed, "study")
    assert [step for part in (before, after) for step, _ in read_history(part)] == [1, 2, 3], "each stands once"
    assert [values["trials/ended"] for _, values in read_history(before)] == [1]
    assert find(before, "exit")[0].exit_code == 1
    assert find(before, "preempting"), "W&B shows that it is to go on"
    progress, last = [values for _, values in read_history(after)]
    assert progress["trials/ended"] == 2
    assert progress["best/value"] == 0.5
    assert progress["best/trial"] == 1
    assert progress["trials/nrows"] == 2
    assert {"report/path", "predictions_table/path", "trials/path"} <= set(last)
    assert last["report/_type"] == "html-file"
    assert list(resumed.glob("wandb/*study/files/media/html/report_*.html"))
    artifacts = {each.type: each for each in find(after, "artifact") if each.type in ("dataset", "model")}
    assert json.loads(artifacts["dataset"].metadata)["digest"] == "12ab34cd56ef78"
    assert artifacts["dataset"].use_after_commit, "an input of the run, not its output"
    assert set(artifacts["model"].aliases) == {"best", "baseline", "latest"}
    assert json.loads(artifacts["model"].metadata)["best"]["number"] == 0


def test_another_number_of_trials_is_logged_when_the_search_is_told(
    tmp_path: Path, tracked_run: Build, train: Train
) -> None:
    tracker = Tracker(WandbRuns(tracked_run(tmp_path), "offline"))
    tracker.set_num_trials(40)
    train(tracker, 0)
    tracker.close()
    assert tracker.backend.problem is None
    ((records),) = read_parts(tmp_path, "study")
    assert [(step, values["trials/planned"]) for step, values in read_history(records)] == [(1, 40), (2, 40)]


def test_runs_have_group_job_type_tags_and_the_best_value_by_direction(resumed: Path) -> None:
    (trial,), (study, _) = read_parts(resumed, "0000"), read_parts(resumed, "study")
    runs = [find(records, "run")[0] for records in (trial, study)]
    assert [run.run_group for run in runs] == ["small", "small"]
    assert [run.job_type for run in runs] == ["trial", "study"]
    assert [run.project for run in runs] == ["raysweep", "raysweep"]
    assert list(runs[0].tags) == ["small", "classification", "synthetic", "baseline"]
    metrics = {metric.name: metric for metric in find(trial, "metric")}
    assert metrics["val/accuracy"].summary.max


def test_what_the_environment_says_goes_before_our_own_names(
    tmp_path: Path, tracked_run: Build, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "some where"
    place.mkdir()
    said = {"WANDB_PROJECT": "cars", "WANDB_ENTITY": "team", "WANDB_DIR": str(place), "WANDB_TAGS": "mine"}
    for name, value in {**said, "WANDB_RUN_GROUP": "mondays", "WANDB_NOTES": "try it"}.items():
        monkeypatch.setenv(name, value)
    tracker = Tracker(WandbRuns(tracked_run(tmp_path / "run"), "offline"))
    train(tracker, 0)
    tracker.close()
    assert tracker.backend.problem is None
    assert not (tmp_path / "run" / "wandb").exists()
    ((records),) = read_parts(place, "0000")
    run = find(records, "run")[0]
    assert (run.project, run.entity, run.run_group, run.notes) == ("cars", "team", "mondays", "try it")
    assert "mine" in run.tags
    assert tracker.sync_command == f"wandb sync '{place}/wandb'/offline-run-*-abc-*"


def test_finalists_are_runs_of_their_own_that_name_the_trial_they_train_again(
    tmp_path: Path, tracked_run: Build, train: Train
) -> None:
    tracker = Tracker(WandbRuns(tracked_run(tmp_path), "offline"))
    first = train(tracker, 0)
    tracker.begin_finalists([first])
    train(tracker, 0)
    tracker.close()
    assert tracker.backend.problem is None
    ((records),) = read_parts(tmp_path, "finalist-0000")
    run = find(records, "run")[0]
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert (run.job_type, config["trial"], config["finalist_of"]) == ("finalist", 0, 0)
    assert run.run_group == "small-finalists-of-0000", "the seeds of one configuration are a group"


def test_classes_keep_their_names_in_the_table_of_predictions(tmp_path: Path, tracked_run: Build) -> None:
    run = tracked_run(tmp_path)
    head, *rows = "image,true,predicted,confidence,accepted", "1,NA,None,0.9,True", "2.0,007,null,0.5,False"
    run.folder.test.mkdir()
    (run.folder.test / "predictions.csv").write_text("\n".join([head, *rows]))
    table = _build_predictions(run)["predictions_table"]
    assert table.columns == head.split(",")
    assert table.data == [["1", "NA", "None", 0.9, True], ["2.0", "007", "null", 0.5, False]]


def test_a_search_that_is_interrupted_leaves_no_open_run(tmp_path: Path, tracked_run: Build, train: Train) -> None:
    tracker = Tracker(WandbRuns(tracked_run(tmp_path), "offline"))
    train(tracker, 0, ends=False)
    tracker.close()
    tracker.close()  # as the search's exit stack does after an end
    assert tracker.backend.problem is None
    assert not [thread for thread in threading.enumerate() if thread.name == "tracker"]
    assert [len(read_parts(tmp_path, name)) for name in ("0000", "study")] == [1, 1]


def test_a_damaged_file_of_an_earlier_part_is_read_up_to_the_damage(resumed: Path, tmp_path: Path) -> None:
    (whole,) = resumed.glob("wandb/offline-run-*-abc-0000*/*.wandb")
    path, content = tmp_path / whole.name, whole.read_bytes()
    path.write_bytes(content)
    assert find_last_step([path]) == 2
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert find_last_step([path]) in (0, 1, 2)
    path.write_bytes(content[:20] + b"\xff" * 40 + content[60:])
    assert find_last_step([path]) == 0


def test_where_nothing_was_recorded_there_is_nothing_to_upload(tmp_path: Path, tracked_run: Build) -> None:
    assert WandbRuns(tracked_run(tmp_path), "offline").sync_command is None
