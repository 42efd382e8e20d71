"""Says what is waited for: no wait is silent for longer than half a minute."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from raysweep.storage_faults import say

PERIOD_S = 30.0


@contextlib.contextmanager
def repeat(act: Callable[[], None], period_s: float) -> Iterator[None]:
    """Calls `act` every `period_s` seconds, in a thread of its own, while what is in it lasts."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(period_s):
            act()

    threading.Thread(target=work, name="announcement", daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextlib.contextmanager
def announce(what: str) -> Iterator[None]:
    """Prints every half minute on stderr that `what` is waited for, while what is in it lasts."""
    began = time.monotonic()

    def remind() -> None:
        say(f"waiting for {what}, for {time.monotonic() - began:.0f} s by now; Ctrl-C ends it")

    with repeat(remind, PERIOD_S):
        yield
