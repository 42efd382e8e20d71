"""Weights & Biases without network: offline runs are whole, an unreachable server stops nothing, no key is stored.

Servers of one's own are stand-ins on this machine, which keep what they are asked.
"""

import base64
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import wandb
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from raysweep import atomic_files
from raysweep.config import Objective
from raysweep.data.images import DataInfo
from raysweep.evaluate.test_figures import TestFigures
from raysweep.run_folder import RunFolder
from raysweep.search.results import Machine, Results
from raysweep.tracking import Tracker, default_mode
from raysweep.trial_result import TrialResult

KEY = "0123456789abcdef" * 2 + "01234567"

BASIC = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
Serve = Callable[..., tuple[str, list[str | None]]]


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives each test settings of W&B that are read anew, and no proxy."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`(status, location="", certificate=None, body="{}")` -> its URL, and the `Authorization` of each request."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(
        status: int, location: str = "", certificate: Path | None = None, body: str = "{}"
    ) -> tuple[str, list[str | None]]:
        requests: list[str | None] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.headers.get("Authorization"))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *arguments: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}", requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


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


def follow_online(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Follows a search with a key and the address of a server; returns the problem that is told in the end."""
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    tracker = Tracker("online", run_folder=RunFolder(folder), run_id="abc", group="small", tags=[])
    follow(tracker, folder)
    return tracker.problem


def assert_kept_offline(folder: Path) -> None:
    """Asserts that all three runs are there to be sent, and the key in no file."""
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 3
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_an_unreachable_server_ends_in_offline_runs_and_the_key_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = str(follow_online(tmp_path, "http://me:hidden@127.0.0.1:9", monkeypatch))
    assert "runs are kept offline" in problem
    assert "http://127.0.0.1:9" in problem
    assert "hidden" not in capsys.readouterr().err + problem
    assert_kept_offline(tmp_path)


@pytest.mark.parametrize("status", [401, 500])
def test_the_server_that_the_environment_names_is_asked_and_a_refusal_ends_in_offline_runs(
    status: int, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, requests = serve(status)
    assert "runs are kept offline" in str(follow_online(tmp_path, server, monkeypatch))
    assert BASIC in requests
    assert_kept_offline(tmp_path)


def test_the_server_of_wandb_s_own_file_is_asked(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server, requests = serve(401)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    (tmp_path / "settings").write_text(f"[default]\nbase_url = {server}\n")
    Tracker("online", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=[]).close()
    assert BASIC in requests


def test_a_server_that_knows_the_key_gets_the_runs(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = json.dumps({"data": {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}"}}})
    server, requests = serve(200, body=flags)
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    tracker = Tracker("online", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=[])
    tracker.close()
    assert tracker.mode == "online", tracker.problem
    assert BASIC in requests


def test_a_server_that_never_answers_ends_in_offline_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert server in str(follow_online(tmp_path, server, monkeypatch))
    assert_kept_offline(tmp_path)


def test_a_certificate_that_nobody_knows_ends_in_offline_runs_and_no_key_is_sent(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, requests = serve(200, certificate=make_certificate(tmp_path / "server.pem"))
    assert "certificate" in str(follow_online(tmp_path, server, monkeypatch))
    assert requests == []
    assert_kept_offline(tmp_path)


def test_the_key_does_not_go_to_where_a_server_points(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, others = serve(200)
    server, requests = serve(307, location=other)
    follow_online(tmp_path, server, monkeypatch)
    assert BASIC in requests
    assert others
    assert BASIC not in others


def test_without_a_key_online_ends_in_offline_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    tracker = Tracker("online", run_folder=RunFolder(tmp_path), run_id="abc", group="small", tags=[])
    follow(tracker, tmp_path)
    assert "no key is known" in str(tracker.problem)
    assert_kept_offline(tmp_path)


@pytest.mark.parametrize("server", ["garbage", "", "ftp://host", "http://me:hidden@127.0.0.1:port"])
def test_an_address_that_is_none_logs_nothing_rather_than_at_the_public_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = str(follow_online(tmp_path, server, monkeypatch))
    assert "nothing is logged: wrong setting of W&B: base_url" in problem
    assert "hidden" not in problem
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("WANDB_API_KEY", "hidden"), ("WANDB_BASE_URL", "hidden"), ("WANDB_API_KEY", " ")]
)
def test_a_key_or_address_that_is_none_is_said_and_does_not_end_the_search(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv(name, value)
    assert default_mode() == "offline"
    told = capsys.readouterr().err
    assert "runs are kept offline" in told
    assert "hidden" not in told


def test_a_key_makes_it_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert default_mode() == "offline"
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert default_mode() == "online"


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


def make_certificate(path: Path) -> Path:
    """Writes a key and a certificate that no authority has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    text = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(text + certificate.public_bytes(form))
    return path
