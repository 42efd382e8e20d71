"""Notices that a local Ray loses one of its own processes while it starts: Ray itself waits two minutes for it."""

import contextlib
import threading
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]  # comes with Ray

from raysweep import signals
from raysweep.cluster.lost_ray import AGAIN, ESSENTIAL, GRACE_S, PERIOD_S
from raysweep.errors import RayLostError


@contextlib.contextmanager
def watch_start() -> Iterator[None]:
    """Has the command begin again, or end, where an essential process of the Ray that starts meanwhile has died.

    The main thread is in Ray's calls then and cannot be interrupted. Code that is no command of ours waits for Ray.
    """
    others = _find_essential()
    ended = threading.Event()

    def watch() -> None:
        seen: dict[psutil.Process, str] = {}
        while not ended.wait(PERIOD_S):
            seen |= {process: name for process, name in _find_essential().items() if process not in others}
            dead = next((name for process, name in seen.items() if _is_dead(process)), None)
            if dead is not None and not ended.wait(GRACE_S):
                _end(dead, list(seen))
                return

    if signals.is_installed():
        threading.Thread(target=watch, name="ray-start", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _find_essential() -> dict[psutil.Process, str]:
    """Finds the processes that this one has started and without which a local Ray does nothing, and their names."""
    found = {}
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if (name := process.name()) in ESSENTIAL:
                found[process] = name
    return found


def _is_dead(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def _end(lost: str, processes: list[psutil.Process]) -> None:
    """Kills what else of that Ray runs, the others of which end by that, and begins the command again or ends it."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    error = RayLostError(f"{lost} of the local Ray has died as it started; {AGAIN}", lost=lost, is_local=True)
    signals.begin_again(error)
    signals.end_at_once(f"error: {error}", error.exit_code)
