"""`wandb sync` and online runs, with a stand-in for W&B's server on this machine, which keeps what is sent."""

import gzip
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from raysweep.search.results import Results
from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.tracker import Tracker
from raysweep.tracking.wandb_runs import WandbRuns
from raysweep.trial_result import TrialResult

Build = Callable[[Path], TrackedRun]
Train = Callable[..., TrialResult]
Finish = Callable[[Tracker, list[TrialResult]], Results]
KEY = "0123456789abcdef" * 2 + "01234567"


def test_after_each_sync_the_server_has_each_epoch_once(resumed: Path, tracked_run: Build, server: "Server") -> None:
    parts = sorted(resumed.glob("wandb/offline-run-*-abc-0001*"))
    rest = sorted(set(resumed.glob("wandb/offline-run-*")) - set(parts))
    online = WandbRuns(tracked_run(resumed), "online")
    assert online.sync_command == f"wandb sync {resumed}/wandb/offline-run-*-abc-*", "of earlier sessions"
    server.sync(parts[0])
    assert server.steps("abc-0001") == [1, 2]
    server.sync(*parts, *rest)
    assert online.sync_command is None, "all is uploaded"
    server.sync(*parts, *rest)
    assert server.steps("abc-0001") == [1, 2, 3, 4, 5]
    assert [row["epoch"] for row in server.history("abc-0001")] == [1, 2, 3, 4, 5]
    assert [row["trials/ended"] for row in server.history("abc-study")] == [1, 2, 2]
    assert server.steps("abc-study") == [1, 2, 3]
    assert server.runs["abc-0001"]["groupName"] == server.runs["abc-study"]["groupName"] == "small"
    assert {"dataset", "model"} <= {artifact["artifactTypeName"] for artifact in server.artifacts}
    aliases = [{alias["alias"] for alias in each["aliases"]} for each in server.artifacts if is_model(each)]
    assert aliases == [{"best", "baseline", "latest"}]
    assert server.used, "the data set is an input of the study's run"


def test_a_file_that_a_kill_left_empty_keeps_no_run_from_being_uploaded(
    tmp_path: Path, tracked_run: Build, train: Train, server: "Server"
) -> None:
    before = Tracker(WandbRuns(tracked_run(tmp_path), "offline"))
    ended = [train(before, 0)]
    before.close()
    (whole,) = tmp_path.glob("wandb/*-abc-0000/*.wandb")
    empty = tmp_path / "wandb/offline-run-20200101_000000-abc-0001/run-abc-0001.wandb"
    empty.parent.mkdir()
    empty.write_bytes(whole.read_bytes()[:7])
    after = Tracker(WandbRuns(tracked_run(tmp_path), "offline"), ended)
    train(after, 1)
    after.close()
    assert not empty.parent.exists()
    server.sync(*tmp_path.glob("wandb/offline-run-*"))
    assert [server.steps(name) for name in ("abc-0000", "abc-0001")] == [[1, 2], [1, 2]]


def is_model(artifact: Mapping[str, Any]) -> bool:
    return bool(artifact["artifactTypeName"] == "model")


def test_online_a_resumed_trial_goes_on_where_the_server_is_and_a_workspace_is_saved_once(
    tmp_path: Path,
    tracked_run: Build,
    train: Train,
    finish: Finish,
    server: "Server",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    before = Tracker(WandbRuns(tracked_run(tmp_path), "online"))
    first = train(before, 0)
    train(before, 1, epochs=(1, 2), ends=False)
    before.close()
    shutil.rmtree(tmp_path / "wandb")  # as on another machine
    after = Tracker(WandbRuns(tracked_run(tmp_path), "online"), [first])
    finish(after, [first, train(after, 1, epochs=(3, 4))])
    assert (before.backend.problem, after.backend.problem) == (None, None)
    assert server.steps("abc-0001") == [1, 2, 3, 4]
    assert server.steps("abc-study") == [1, 2, 3]
    assert after.sync_command is None
    (view,) = server.views
    assert view["displayName"] == "small (abc)"
    assert "config:task.value.learning_rate" in view["spec"]
    assert "Parameter Importance" in view["spec"]


class Server:
    """Stands in for W&B's server: GraphQL, the stream of files by offset, and uploads; as W&B's own tests read it."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.home = home
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, dict[int, str]]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.used: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []

    def sync(self, *folders: Path) -> None:
        """Runs `wandb sync`, as its user does."""
        environment = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}
        command = [sys.executable, "-m", "wandb", "sync", *map(str, folders)]
        paths = {"PATH": str(Path(sys.executable).parent), "HOME": str(self.home), "WANDB_DIR": str(self.home)}
        done = subprocess.run(
            command, env={**environment, **paths}, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "rror" not in done.stderr, done.stderr

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """The rows of a run as its page shows them."""
        rows = self.files[run_id].get("wandb-history.jsonl", {})
        return [json.loads(rows[offset]) for offset in sorted(rows)]

    def steps(self, run_id: str) -> list[int]:
        return [row["_step"] for row in self.history(run_id)]

    def answer(self, operation: str, values: dict[str, Any]) -> Any:
        """The data of a GraphQL answer."""
        project = {"id": "1", "name": "raysweep", "entity": {"id": "2", "name": "me"}}
        if operation == "Viewer":
            return {"viewer": {"id": "3", "entity": "me", "username": "me", "email": "", "teams": {"edges": []}}}
        if operation == "RunResumeStatus":
            return {"model": {**project, "bucket": self._describe_run(values["name"])}}
        if operation == "UpsertBucket":
            run_id = values["name"]
            self.runs.setdefault(run_id, {}).update({key: each for key, each in values.items() if each is not None})
            bucket = {"id": run_id, "name": run_id, "project": project, "historyLineCount": 0}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in values["files"]]
            return {"createRunFiles": {"runID": values["run"], "uploadHeaders": [], "files": files}}
        if operation == "ArtifactType":
            return {"project": None}
        if operation.startswith("UpsertView"):
            self.views.append(values)
            return {"upsertView": {"view": {"id": "v", "name": values["name"]}, "inserted": True}}
        return self._answer_artifact(operation, values)

    def _answer_artifact(self, operation: str, values: dict[str, Any]) -> Any:
        upload: dict[str, Any] = {"uploadUrl": f"{self.url}/upload", "uploadHeaders": [], "uploadMultipartUrls": None}
        given = values.get("input", values)
        if operation == "CreateArtifact":
            self.artifacts.append(given)
            sequence = {"latestArtifact": None}
            artifact = {"id": f"a{len(self.artifacts)}", "state": "PENDING", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if operation in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            manifest = {"id": "m", "file": {"id": "f", **upload}}
            return {f"{operation[0].lower()}{operation[1:]}": {"artifactManifest": manifest}}
        if operation == "CreateArtifactFiles":
            files = [(each["name"], {"id": each["artifactID"]}) for each in given["artifactFiles"]]
            nodes = [{"storagePath": name, "artifact": artifact, **upload} for name, artifact in files]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}
        if operation == "UseArtifact":
            self.used.append(given)
            return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}
        return {}

    def _describe_run(self, run_id: str) -> dict[str, Any] | None:
        if run_id not in self.runs:
            return None
        rows, summary = self.history(run_id), self.files[run_id].get("wandb-summary.json", {})
        return {
            "id": run_id,
            "name": run_id,
            "config": self.runs[run_id].get("config", "{}"),
            "historyLineCount": len(rows),
            "eventsLineCount": len(self.files[run_id].get("wandb-events.jsonl", {})),
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsTail": "[]",
            "summaryMetrics": summary.get(max(summary, default=0), "{}"),
            "wandbConfig": '{"t": 1}',
        }

    def take_lines(self, run_id: str, files: Mapping[str, Any]) -> None:
        """Keeps lines of a run's files at their offsets, over those that were there."""
        for name, part in files.items():
            lines = self.files.setdefault(run_id, {}).setdefault(name, {})
            lines.update(enumerate(part["content"], part["offset"]))


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer: Any = {}
            if self.path == "/graphql":
                request = json.loads(body)
                operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
                answer = {"data": stand_in.answer(operation[1] if operation else "", request.get("variables") or {})}
            elif self.path.endswith("/file_stream"):
                run_id = self.path.split("/")[-2]
                stand_in.take_lines(run_id, json.loads(body).get("files", {}))
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST  # noqa: N815 - http.server's names

        def log_message(self, *arguments: Any) -> None:
            pass

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in = Server(f"http://127.0.0.1:{http_server.server_port}", tmp_path_factory.mktemp("home"))
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield stand_in
    http_server.shutdown()
    http_server.server_close()
