"""Ends a command on a signal: the first one as an exception, or as trials end in order, a second one at once.

Only the command line installs this; a program that imports raysweep keeps its own handlers.
"""

import contextlib
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; Kubernetes, Slurm, systemd; a terminal that is closed; Slurm before the time limit of a job."""
REPEATED = (signal.SIGINT, signal.SIGTERM)
"""Those that end at once when they come while the command is ending."""
SAME_S = 0.1
"""Signals within this time are one: a wrapper passes on what the terminal has sent to the whole group."""
LIMIT_S = 25.0
"""Time to end in; Kubernetes and Slurm kill after 30 seconds. Ctrl-C has none: whoever pressed it may press again."""
SOFT_LIMIT_S = 8.0
"""Of that the time for running trials to end in."""
NOTICE_S = 30.0
WAKE = signal.SIGUSR2
"""Sent by this process to its own main thread; see `interrupt_main`."""


class Interrupted(KeyboardInterrupt):
    """Ends a command because a signal came."""


class _State:
    """Holds what the handlers and the thread that watches them share."""

    installed = False
    over = False
    received: signal.Signals | None = None
    received_at = 0.0
    has_raised = False
    woken = False
    soften: Callable[[], None] | None = None
    restart: Callable[[Any], None] | None = None
    last_acts: list[Callable[[], None]] = []  # noqa: RUF012 - there is one state


_fork = threading.local()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Ends what is done in it on a signal. The handlers stay until the process is gone, which takes Ray a while."""
    _State.over = False
    try:
        _install()
        yield
    finally:
        _State.over = True


@contextlib.contextmanager
def softened(end: Callable[[], None]) -> Iterator[None]:
    """Calls `end` on the first signal, in place of an exception: what is done within ends by itself, and soon.

    end: only sets a flag: it is called in the main thread, whatever that is about to do.
    """
    _State.soften = end
    try:
        yield
    finally:
        _State.soften = None


def _install() -> None:
    """Installs the handlers; a signal that is ignored, as under `nohup`, stays ignored."""
    if _State.installed or threading.current_thread() is not threading.main_thread():
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, writer), name="signals", daemon=True).start()
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_forget)
    _State.installed = True
    keep()


def _hold_back() -> None:
    """Holds signals back while this thread forks: a child that gets one before `_forget` would write to the socket."""
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _forget() -> None:
    """Gives a forked process its own signals: its writing to the socket would be read as this one's."""
    signal.set_wakeup_fd(-1)
    for number in (*ENDING, WAKE):
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _let_through()


def keep() -> None:
    """Installs the handlers again where they were installed: Ray and Ray Tune set their own as they start."""
    if not _State.installed or threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    signal.signal(WAKE, _handle)


def is_installed() -> bool:
    """Tells whether signals end this process's command."""
    return _State.installed


def received() -> signal.Signals | None:
    """Returns the signal that ends the command; none: there was none."""
    return _State.received


def is_urgent() -> bool:
    """Tells whether what ends softly has had its time: whoever sent the signal may kill soon."""
    if _State.received in (None, signal.SIGINT):
        return False
    return time.monotonic() - _State.received_at > SOFT_LIMIT_S


def time_left_s() -> float:
    """Returns the seconds until a command that a signal ends is ended at once; infinity where it is not."""
    if _State.received in (None, signal.SIGINT):
        return math.inf
    return max(0.0, LIMIT_S - (time.monotonic() - _State.received_at))


def ignore() -> None:
    """Ignores what would end a command that has ended: its exit code stays that of the first signal."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def exit_code() -> int:
    """Returns what a command that was interrupted exits with: 128 + the signal's number, 130 for Ctrl-C."""
    return 128 + (_State.received or signal.SIGINT)


def interrupt_main() -> None:
    """Raises KeyboardInterrupt in the main thread, though no signal came; blocking calls of its are interrupted."""
    _State.woken = True
    number = WAKE if _State.installed else signal.SIGINT
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def set_restart(restart: Callable[[Any], None]) -> None:
    """Sets what begins the command again after an error; it returns where it does not."""
    _State.restart = restart


def begin_again(error: Exception) -> None:
    """Begins the command again, from any thread; returns where that is of no use."""
    if _State.restart is not None:
        _State.restart(error)


def before_end_at_once(act: Callable[[], None]) -> None:
    """Adds what is done before a command ends at once: quick, and from any thread."""
    if act not in _State.last_acts:
        _State.last_acts.append(act)


def end_at_once(message: str, code: int) -> None:
    """Prints one line on stderr and ends the process, whatever its threads do."""
    show_cursor = "\x1b[?25h" if sys.stderr is not None and sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{show_cursor}\n{message}\n".lstrip("\n").encode())
    for act in _State.last_acts:
        with contextlib.suppress(Exception):
            act()
    os._exit(code)


def _handle(number: int, frame: FrameType | None) -> None:
    """Raises once, or has what is done end by itself; the thread sees to the rest."""
    if number == WAKE:
        woken, _State.woken = _State.woken, False
        if woken and _State.received is None and not _State.over:
            raise KeyboardInterrupt
    elif not _State.has_raised and not _State.over:
        _State.received, _State.has_raised = _State.received or signal.Signals(number), True
        _State.received_at = time.monotonic()
        if _State.soften is None:
            raise Interrupted
        _State.soften()


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """Follows all signals, which the system's own handler writes to a socket, whatever the main thread is busy with."""
    while (first := reader.recv(1)[0]) not in ENDING:
        pass
    began = said = time.monotonic()
    _State.received_at = _State.received_at or began
    _State.received = _State.received or signal.Signals(first)  # where another handler has taken it
    time.sleep(SAME_S)
    if select.select([reader], [], [], 0)[0]:
        reader.recv(64)
    while True:
        if not _State.has_raised and not _State.over:  # another thread got it, and the main thread sleeps on
            signal.pthread_kill(threading.main_thread().ident or 0, WAKE)
        ready, _, _ = select.select([reader], [], [], 1.0)
        again = [number for number in (reader.recv(64) if ready else b"") if number in REPEATED]
        if again:
            end_at_once("interrupted again: ended at once", 128 + again[0])
        now = time.monotonic()
        if first != signal.SIGINT and now - began > LIMIT_S:
            end_at_once(f"not ended {LIMIT_S:.0f} s after {signal.Signals(first).name}: ended at once", 128 + first)
        if now - said > NOTICE_S:
            said = now
            with contextlib.suppress(OSError):
                os.write(2, b"still ending; Ctrl-C again ends at once\n")
