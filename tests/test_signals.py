"""How signals end a command: in real processes, which run a small command as the command line runs its own."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysweep import signals
from raysweep.signals import SAME_S

ROOT = Path(__file__).resolve().parents[1]
COMMAND = """
import multiprocessing, os, signal, sys, time
import click
from raysweep import signals
from raysweep.cli import run_command

@click.command()
def work():
    {body}

run_command(work, [], "work")
"""
ORDERLY = """
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("closed", flush=True)
"""
SLOW_TO_CLOSE = """
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("closing", flush=True)
        time.sleep(60)
"""
DEAF = """
    signals.LIMIT_S = 0.5
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""
HANDLED_BY_RAY = """
    signals.SAME_S = 2.0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    print("ready", flush=True)
    time.sleep(60)
"""
WITH_A_CHILD = """
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGTERM
    time.sleep(0.3)
    print("ready", flush=True)
"""
WOKEN = """
    import threading
    try:
        print("ready", flush=True)
        threading.Timer(0.1, signals.interrupt_main).start()
        time.sleep(60)
    except KeyboardInterrupt:
        assert signals.received() is None
"""
SOFT = """
    flag = []
    with signals.softened(lambda: flag.append(1)):
        print("ready", flush=True)
        while not flag:
            time.sleep(0.05)
        print("the epoch has ended", flush=True)
    raise signals.Interrupted
"""
SOFT_AND_SLOW = """
    with signals.softened(lambda: print("ending", flush=True)):
        print("ready", flush=True)
        while True:
            time.sleep(0.05)
"""
SOFT_BEFORE = """
    with signals.softened(lambda: None):
        pass
    print("ready", flush=True)
    time.sleep(60)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command and waits until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start_command(body: str, ignored: int | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND.format(body=body.strip())],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: prepare_signals(ignored),
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start_command
    for process in started:
        process.kill()
        process.communicate()


def prepare_signals(ignored: int | None) -> None:
    """Gives a process the signals of a shell's foreground, whatever these tests are run by, but one ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if ignored is not None:
        signal.signal(ignored, signal.SIG_IGN)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr.lstrip("\n")  # click ends the line of ^C


def signal_until_it_ends(process: subprocess.Popen[str], number: int) -> None:
    """Sends a signal again and again: a process that is late takes the second one for the same as the first."""
    limit = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < limit
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3 * SAME_S)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_a_signal_ends_a_command_in_order(start: Start, number: int, code: int) -> None:
    process = start(ORDERLY)
    process.send_signal(number)
    assert end(process) == (code, "closed\n", "interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_ends_by_itself_is_not_broken_off(start: Start, number: int, code: int) -> None:
    process = start(SOFT)
    process.send_signal(number)
    assert end(process) == (code, "the epoch has ended\n", "interrupted\n")


def test_a_second_signal_breaks_off_what_ends_by_itself(start: Start) -> None:
    process = start(SOFT_AND_SLOW)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ending\n"
    time.sleep(3 * SAME_S)
    signal_until_it_ends(process, signal.SIGINT)
    assert end(process) == (130, "", "interrupted again: ended at once\n")


def test_a_signal_after_what_ends_by_itself_is_as_any_other(start: Start) -> None:
    process = start(SOFT_BEFORE)
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_one_ends_it_at_once_with_one_line(start: Start, number: int) -> None:
    process = start(SLOW_TO_CLOSE)
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == "closing\n"
    time.sleep(3 * SAME_S)
    signal_until_it_ends(process, number)
    assert end(process) == (128 + number, "", "interrupted again: ended at once\n")


def test_what_follows_a_closed_terminal_does_not_hurry_the_end(start: Start) -> None:
    process = start(SLOW_TO_CLOSE)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "closing\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)


def test_a_wrapper_that_passes_on_what_the_whole_group_got_is_no_second_signal(start: Start) -> None:
    process = start("signals.SAME_S = 1.0\n" + ORDERLY)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    code, *said = end(process)
    assert said == ["closed\n", "interrupted\n"]
    assert code in (130, 143)


def test_a_command_that_does_not_end_is_ended(start: Start) -> None:
    process = start(DEAF)
    process.send_signal(signal.SIGTERM)
    code, _, stderr = end(process)
    assert code == 143
    assert "after SIGTERM: ended at once" in stderr


def test_a_signal_that_is_ignored_stays_so(start: Start) -> None:
    process = start(ORDERLY, signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)


def test_a_handler_that_ray_sets_changes_nothing(start: Start) -> None:
    process = start(HANDLED_BY_RAY)
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "", "interrupted\n")


def test_a_signal_of_a_forked_child_is_the_child_s(start: Start) -> None:
    assert end(start(WITH_A_CHILD)) == (0, "", "")


def test_the_main_thread_is_interrupted_without_a_signal_from_outside(start: Start) -> None:
    assert end(start(WOKEN)) == (0, "", "")


def test_a_program_that_imports_raysweep_keeps_its_handlers() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    import raysweep.api
    from raysweep import signals

    signals.keep()
    assert raysweep.api
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("received", "seconds_ago", "left_s"),
    [(None, 0, math.inf), (signal.SIGINT, 90, math.inf), (signal.SIGTERM, 10, 15), (signal.SIGUSR1, 90, 0)],
)
def test_what_a_signal_leaves_is_known(
    monkeypatch: pytest.MonkeyPatch, received: signal.Signals | None, seconds_ago: float, left_s: float
) -> None:
    monkeypatch.setattr(signals._State, "received", received)
    monkeypatch.setattr(signals._State, "received_at", time.monotonic() - seconds_ago)
    assert signals.time_left_s() == pytest.approx(left_s, abs=0.5)
