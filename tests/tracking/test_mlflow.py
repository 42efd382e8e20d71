"""MLflow's own client is asked for what was logged: in a database in the run's folder, and on a server."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.server.constants import (
    ARTIFACT_ROOT_ENV_VAR,
    ARTIFACTS_DESTINATION_ENV_VAR,
    BACKEND_STORE_URI_ENV_VAR,
    SERVE_ARTIFACTS_ENV_VAR,
)

from raysweep.search.results import Results
from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.mlflow_runs import MlflowRuns
from raysweep.tracking.tracker import Tracker
from raysweep.trial_result import TrialResult

Build = Callable[[Path], TrackedRun]
Train = Callable[..., TrialResult]
Finish = Callable[[Tracker, list[TrialResult]], Results]


def follow(folder: Path, tracked_run: Build, train: Train, finish: Finish) -> None:
    """Follows a search whose second trial was stopped after two epochs, and went on to its fourth."""
    before = Tracker(MlflowRuns(tracked_run(folder)))
    first = train(before, 0)
    train(before, 1, ends=False)
    before.close()
    after = Tracker(MlflowRuns(tracked_run(folder)), [first])
    finish(after, [first, train(after, 1, epochs=(3, 4)), train(after, 2, "FAIL")])
    assert (before.backend.problem, after.backend.problem) == (None, None)


def find_runs(client: MlflowClient, name: str) -> dict[str, Run]:
    """The runs of an experiment by name."""
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def check(client: MlflowClient, experiment: str) -> None:
    """Asserts that all of the search is there."""
    runs = find_runs(client, experiment)
    assert sorted(runs) == ["small-0000", "small-0001", "small-0002", "small-study"]
    assert [runs[name].info.status for name in sorted(runs)] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    study, resumed = runs["small-study"], runs["small-0001"]
    for run in (runs["small-0000"], resumed):
        assert run.data.tags["mlflow.parentRunId"] == study.info.run_id
    history = client.get_metric_history(resumed.info.run_id, "val/accuracy")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert resumed.data.params == {"trial": "1", "task.learning_rate": "0.1"}
    assert resumed.data.metrics["best_value"] == 0.4
    assert runs["small-0002"].data.tags["raysweep.error"] == "TrialError: NaN"
    assert runs["small-0000"].data.tags["raysweep.kind"] == "baseline"
    assert study.data.metrics["test/accuracy"] == 0.5
    assert study.data.metrics["best/trial"] == 1
    assert study.inputs is not None
    assert [each.dataset.digest for each in study.inputs.dataset_inputs] == ["12ab34cd56ef78"]
    files = {file.path for place in (None, "test", "best") for file in client.list_artifacts(study.info.run_id, place)}
    assert {"report.html", "study.json", "test/report.txt", "best/model.safetensors"} <= files
    assert {file.path for file in client.list_artifacts(resumed.info.run_id)} == {"config.json"}


SERVER = """
from mlflow.server import app
from werkzeug.serving import make_server

server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of MLflow's own server, which takes artifacts, too."""
    said = {
        BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{tmp_path}/server.db",
        ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        ARTIFACTS_DESTINATION_ENV_VAR: str(tmp_path / "artifacts"),
        SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    command = [sys.executable, "-W", "ignore", "-c", SERVER]
    with subprocess.Popen(command, env={**os.environ, **said}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def test_a_server_that_the_environment_names_has_all_and_the_run_s_folder_nothing(
    server: str, tmp_path: Path, tracked_run: Build, train: Train, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mondays")
    follow(tmp_path / "run", tracked_run, train, finish)
    check(MlflowClient(tracking_uri=server), "mondays")
    assert not (tmp_path / "run" / "mlflow").exists()


def test_a_file_store_that_the_environment_names_has_each_epoch_once(
    tmp_path: Path, tracked_run: Build, train: Train, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"file:{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow 3.17 refuses it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    follow(tmp_path / "run", tracked_run, train, finish)
    check(MlflowClient(tracking_uri=uri), "raysweep")
    assert not (tmp_path / "run" / "mlflow").exists()


def test_a_database_in_the_run_s_folder_has_each_epoch_once(
    tmp_path: Path,
    tracked_run: Build,
    train: Train,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    follow(tmp_path / "my run", tracked_run, train, finish)
    uri = f"sqlite:///{tmp_path}/my run/mlflow/mlflow.db"
    check(MlflowClient(tracking_uri=uri), "raysweep")
    said = capsys.readouterr()
    assert f"MLflow: mlflow ui --backend-store-uri '{uri}'\n" in said.err
    assert said.out == ""


def test_an_error_names_the_server_without_its_password(
    tmp_path: Path, tracked_run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker(MlflowRuns(tracked_run(tmp_path)))
    tracker.close()
    assert tracker.backend.problem is not None
    assert "127.0.0.1:9" in tracker.backend.problem
    assert "secret" not in tracker.backend.problem
