"""Notifications reach a real server; one that fails says one sentence and ends nothing."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raysweep.config import Objective
from raysweep.errors import StorageError, UsageError
from raysweep.evaluate.test_figures import TestFigures
from raysweep.run_folder import RunFolder
from raysweep.search.notification import Notifier, load_services
from raysweep.search.options import RunOptions
from raysweep.search.run import run_study
from raysweep.search.session.lock import hold_lock
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_result import TrialResult

ACCURACY = Objective(metric="val/accuracy")


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of a server for Apprise, and what it has been sent."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"json://me:secret@127.0.0.1:{http.server_port}/hook", received
        http.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "cars")


def end(number: int, value: float, state: Any = "COMPLETE") -> TrialResult:
    return TrialResult(number=number, state=state, value=value, best_epoch=1, params={}, duration_s=1.0)


def test_each_new_best_and_the_end_are_sent(server: tuple[str, list[dict[str, Any]]], folder: RunFolder) -> None:
    url, received = server
    test = TestFigures(num_images=1, report="a.txt", headline="accuracy 0.9", lift={"text": "0.1 more"}, own={})
    results: Any = SimpleNamespace(test=test)
    with Notifier([url], folder) as notifier:
        notifier.begin([ACCURACY], [])
        for result in (end(0, 0.5), end(1, 0.4), end(2, 0.9, "PRUNED"), end(3, 0.6)):
            notifier.trial_ended(result)
        notifier.search_ended(results)
    assert [(message["title"], message["message"], message["type"]) for message in received] == [
        ("raysweep cars: new best", "trial 3: val/accuracy 0.6000, before 0.5000 (trial 0)", "info"),
        ("raysweep cars: finished", "accuracy 0.9\nlift: 0.1 more", "success"),
    ]


@pytest.mark.parametrize(
    ("error", "title", "text"),
    [
        (StorageError("no space for it\nanywhere"), "failed", "no space for it"),
        (KeyboardInterrupt(), "interrupted", "go on with --resume: "),
    ],
)
def test_how_a_run_ends_is_sent(
    server: tuple[str, list[dict[str, Any]]], folder: RunFolder, error: BaseException, title: str, text: str
) -> None:
    url, received = server
    with pytest.raises(type(error)), Notifier([url], folder):
        raise error
    (message,) = received
    assert message["title"] == f"raysweep cars: {title}"
    assert message["message"].startswith(text)


def test_a_driver_that_another_keeps_out_sends_no_failure_of_a_run_that_is_fine(
    server: tuple[str, list[dict[str, Any]]], folder: RunFolder, study: Study, begin_run: Callable[..., Strategy]
) -> None:
    url, received = server
    begin_run(folder, study)
    options = RunOptions(storage=folder.storage, name="cars", resume=True, wandb="disabled", notify=(url,))
    with hold_lock(folder), pytest.raises(UsageError, match="another driver works in"):
        run_study(study, options)
    assert received == []


def test_a_service_that_does_not_answer_is_said_once_and_the_others_are_told(
    server: tuple[str, list[dict[str, Any]]], folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    url, received = server
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    with Notifier([f"json://me:secret@127.0.0.1:{closed}", url], folder) as notifier:
        notifier.begin([ACCURACY], [end(0, 0.5)])
        for number in (1, 2):
            notifier.trial_ended(end(number, 0.5 + number / 10))
    assert len(received) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no notification by JSON: A Connection error occurred")
    assert "the run goes on" in line
    assert "secret" not in line


def test_a_url_that_is_none_is_refused_without_its_password(folder: RunFolder) -> None:
    with pytest.raises(UsageError, match=r"--notify must be a URL of Apprise, .* begins with 'nothing'") as caught:
        Notifier(["nothing://me:secret@host"], folder)
    assert "secret" not in str(caught.value)


def test_without_apprise_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(UsageError, match=r"pip install 'raysweep\[notify\]'"):
        load_services(["json://localhost"])
    assert load_services([]) == []
