"""Weights & Biases and its server: one that is out of reach or refuses stops nothing, and no key is stored.

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
from typing import Any

import pytest
import wandb
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.tracker import Tracker
from raysweep.tracking.wandb_runs import WandbRuns, default_mode
from raysweep.trial_result import TrialResult

KEY = "0123456789abcdef" * 2 + "01234567"

BASIC = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
Serve = Callable[..., tuple[str, list[str | None]]]
Build = Callable[[Path], TrackedRun]
Follow = Callable[[Tracker], None]
FollowOnline = Callable[[Path, str], str]


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


@pytest.fixture
def follow(train: Callable[..., TrialResult], finish: Callable[..., Any]) -> Follow:
    """Follows a search of two trials, one of which fails."""

    def follow(tracker: Tracker) -> None:
        finish(tracker, [train(tracker, 0, epochs=(1,)), train(tracker, 1, "FAIL", epochs=(1,))])

    return follow


@pytest.fixture
def follow_online(tracked_run: Build, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> FollowOnline:
    """Follows a search with a key and the address of a server; returns the problem that is told in the end."""

    def follow_online(folder: Path, server: str) -> str:
        monkeypatch.setenv("WANDB_BASE_URL", server)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
        tracker = Tracker(WandbRuns(tracked_run(folder), "online"))
        follow(tracker)
        return str(tracker.backend.problem)

    return follow_online


def assert_kept_offline(folder: Path) -> None:
    """Asserts that all three runs are there to be sent, and the key in no file."""
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 3
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_an_unreachable_server_ends_in_offline_runs_and_the_key_is_in_no_file(
    tmp_path: Path, follow_online: FollowOnline, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = follow_online(tmp_path, "http://me:hidden@127.0.0.1:9")
    assert "runs are kept offline" in problem
    assert "http://127.0.0.1:9" in problem
    assert "hidden" not in capsys.readouterr().err + problem
    assert_kept_offline(tmp_path)


@pytest.mark.parametrize("status", [401, 500])
def test_the_server_that_the_environment_names_is_asked_and_a_refusal_ends_in_offline_runs(
    status: int, tmp_path: Path, serve: Serve, follow_online: FollowOnline
) -> None:
    server, requests = serve(status)
    assert "runs are kept offline" in follow_online(tmp_path, server)
    assert BASIC in requests
    assert_kept_offline(tmp_path)


def test_the_server_of_wandb_s_own_file_is_asked(
    tmp_path: Path, tracked_run: Build, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, requests = serve(401)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    (tmp_path / "settings").write_text(f"[default]\nbase_url = {server}\n")
    Tracker(WandbRuns(tracked_run(tmp_path), "online")).close()
    assert BASIC in requests


def test_a_server_that_knows_the_key_gets_the_runs(
    tmp_path: Path, tracked_run: Build, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = json.dumps({"data": {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}"}}})
    server, requests = serve(200, body=flags)
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    backend = WandbRuns(tracked_run(tmp_path), "online")
    backend._choose_mode()
    assert backend.mode == "online", backend.problem
    assert BASIC in requests


def test_offline_asks_no_server(
    tmp_path: Path, tracked_run: Build, follow: Follow, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, requests = serve(200)
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    follow(Tracker(WandbRuns(tracked_run(tmp_path), "offline")))
    wandb.teardown()
    assert requests == []
    assert_kept_offline(tmp_path)


def test_a_server_that_never_answers_ends_in_offline_runs(tmp_path: Path, follow_online: FollowOnline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert server in follow_online(tmp_path, server)
    assert_kept_offline(tmp_path)


def test_a_certificate_that_nobody_knows_ends_in_offline_runs_and_no_key_is_sent(
    tmp_path: Path, serve: Serve, follow_online: FollowOnline
) -> None:
    server, requests = serve(200, certificate=make_certificate(tmp_path / "server.pem"))
    assert "certificate" in follow_online(tmp_path, server)
    assert requests == []
    assert_kept_offline(tmp_path)


def test_the_key_does_not_go_to_where_a_server_points(
    tmp_path: Path, serve: Serve, follow_online: FollowOnline
) -> None:
    other, others = serve(200)
    server, requests = serve(307, location=other)
    follow_online(tmp_path, server)
    assert BASIC in requests
    assert others
    assert BASIC not in others


def test_without_a_key_online_ends_in_offline_runs(
    tmp_path: Path, tracked_run: Build, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    tracker = Tracker(WandbRuns(tracked_run(tmp_path), "online"))
    follow(tracker)
    assert "no key is known" in str(tracker.backend.problem)
    assert_kept_offline(tmp_path)


@pytest.mark.parametrize("server", ["garbage", "", "ftp://host", "http://me:hidden@127.0.0.1:port"])
def test_an_address_that_is_none_logs_nothing_rather_than_at_the_public_server(
    server: str, tmp_path: Path, follow_online: FollowOnline
) -> None:
    problem = follow_online(tmp_path, server)
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


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_wandb_mode_decides_first(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert default_mode() == mode


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
