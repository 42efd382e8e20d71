"""Says what is waited for: no wait is silent for longer than half a minute."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

PERIOD_S = 30.0


@contextlib.contextmanager
def announce(what: str) -> Iterator[None]:
    """Prints every half minute on stderr that `what` is waited for, while what is in it lasts."""
    done = threading.Event()

    def remind() -> None:
        began = time.monotonic()
        while not done.wait(PERIOD_S):
            print(f"waiting for {what}, for {time.monotonic() - began:.0f} s by now; Ctrl-C ends it", file=sys.stderr)

    threading.Thread(target=remind, name="announcement", daemon=True).start()
    try:
        yield
    finally:
        done.set()
