"""Which trackers are opened, and what is said of one whose package is not installed."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep import signals
from raysweep.errors import UsageError
from raysweep.search.options import RunOptions
from raysweep.tracking.backend import Backend, TrackedRun
from raysweep.tracking.opening import PACKAGES, check_trackers, open_trackers
from raysweep.tracking.tracker import LAST_S, Tracker, close_trackers


def test_several_at_once_are_opened_each_with_its_own_thread(
    tmp_path: Path, tracked_run: Callable[[Path], TrackedRun]
) -> None:
    options = RunOptions(name="small", wandb="offline", trackers=("tensorboard",))
    check_trackers(options.trackers)
    trackers = open_trackers(tracked_run(tmp_path), options, [])
    close_trackers(trackers)
    close_trackers(trackers)  # as the search's exit stack does after an end
    assert [tracker.backend.title for tracker in trackers] == ["W&B", "TensorBoard"]
    assert [tracker.backend.problem for tracker in trackers] == [None] * 2
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["tensorboard", "wandb"]


def test_disabled_opens_none(tmp_path: Path, tracked_run: Callable[[Path], TrackedRun]) -> None:
    assert open_trackers(tracked_run(tmp_path), RunOptions(name="small", wandb="disabled"), []) == []


def test_one_without_its_package_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "mlflow", "no_such_package")
    with pytest.raises(UsageError, match=r"--tracker mlflow needs .* pip install 'raysweep\[mlflow\]'"):
        check_trackers(["tensorboard", "mlflow"])


def test_an_end_that_a_signal_interrupts_is_waited_for_when_all_is_closed(
    tmp_path: Path, tracked_run: Callable[[Path], TrackedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    class Slow(Backend):
        title = "slow"

        def close(self) -> None:
            may_end.wait()
            (self.run.folder.path / "closed").touch()

    def interrupt(thread: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    tracker = Tracker(Slow(tracked_run(tmp_path)))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tracker.close()
    may_end.set()
    close_trackers([tracker])
    assert (tmp_path / "closed").is_file()


def test_records_leave_notifications_and_the_report_some_time(
    tmp_path: Path, tracked_run: Callable[[Path], TrackedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    class Stuck(Backend):
        title = "stuck"

        def close(self) -> None:
            may_end.wait()

    monkeypatch.setattr(signals, "received", lambda: signal.SIGTERM)
    monkeypatch.setattr(signals, "time_left_s", lambda: LAST_S + 0.1)
    tracker = Tracker(Stuck(tracked_run(tmp_path)))
    began = time.monotonic()
    close_trackers([tracker])
    assert time.monotonic() - began < LAST_S
    assert tracker.backend.problem == "it did not finish in time"
    may_end.set()
