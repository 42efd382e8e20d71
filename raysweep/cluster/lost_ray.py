"""Notices that Ray itself is lost. Where the command started it, the command begins again; else it ends.

Ray in a process does not survive the loss of its own daemons: it waits for them without an end, or ends the process.
So the command's process replaces itself by a new one, with `--resume` and under the same process number.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray import tune

from raysweep import signals
from raysweep.cluster import leftovers
from raysweep.cluster.lost_nodes import answers
from raysweep.cluster.ray_internals import get_local_node as get_local_node
from raysweep.errors import RayLostError, RaysweepError

R = TypeVar("R")
PERIOD_S = 0.2
SILENT_S = 15.0
"""How long a cluster may be silent; Ray itself gives up after 60 seconds, and takes the process along."""
PROBE_PERIOD_S = 2.0
GRACE_S = 1.5
"""How much earlier Ray may fail than its process is seen to be gone."""
REACTION_S = 10.0
"""How long the main thread may stay in a call of Ray's before the command ends without it."""
ESSENTIAL = ("gcs_server", "raylet")
"""The processes without which a local Ray does nothing, by Ray's names."""
LOCAL_CONFIG = {"gcs_rpc_server_reconnect_timeout_s": 86400}
"""Settings of a local Ray: a process that has lost it goes on with what needs none, the final evaluation for one."""
AGAIN = "start the same command again, a search with --resume"
Addresses = Mapping[str, tuple[str, int]]


class RayWatch:
    """Watches the Ray that this process is connected to, in a thread of its own."""

    def __init__(self, name: str, addresses: Addresses) -> None:
        """`addresses` are those of a cluster's processes, by their names; none: Ray is local."""
        self.name = name
        self.addresses = addresses
        self.users: list[threading.Thread] = []
        """The threads that are in calls of `run_on_ray` at the moment."""
        self.loss: str | None = None
        """Which process is lost; none: none is."""
        self._silent_since: dict[str, float] = {}
        self._ended = threading.Event()
        self._noticed = threading.Event()
        threading.Thread(target=self._run, name="ray-watch", daemon=True).start()

    @property
    def is_local(self) -> bool:
        """Tells whether this process has started that Ray."""
        return not self.addresses

    def end(self) -> None:
        """Stops watching."""
        self._ended.set()

    def notice(self) -> str | None:
        """Returns what is lost, after an error of Ray's: that often comes before a process is seen to be gone."""
        deadline = time.monotonic() + GRACE_S
        while not self._look() and (self._silent_since or time.monotonic() < deadline):
            time.sleep(PERIOD_S)
        return self.loss

    def build_error(self) -> RayLostError:
        """Says in one sentence what is lost, and what to do."""
        self._noticed.set()
        lost = self.loss or "Ray"
        if self.is_local:
            text = f"{lost} of the local Ray has died; {AGAIN}"
        else:
            text = (
                f"{lost} of the Ray cluster at {self.name} has not answered for {SILENT_S:.0f} s; see to the cluster "
                f"(`ray status`), then {AGAIN}"
            )
        return RayLostError(text, lost=lost, is_local=self.is_local)

    def _look(self) -> bool:
        self.loss = self.loss or (find_dead_process() if self.is_local else self._find_silent())
        return self.loss is not None

    def _find_silent(self) -> str | None:
        """Finds which of the cluster's processes has not answered for SILENT_S."""
        for name, address in self.addresses.items():
            if answers(address):
                self._silent_since.pop(name, None)
            elif time.monotonic() - self._silent_since.setdefault(name, time.monotonic()) > SILENT_S:
                return name
        return None

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S if self.is_local else PROBE_PERIOD_S):
            if not ray.is_initialized():
                return
            if self._look():
                self._react()
                return

    def _react(self) -> None:
        """Interrupts the main thread where it waits for Ray; where it does not come out of that, does without it."""
        if self.is_local:
            kill_local()
        if threading.main_thread() not in self.users:
            return
        signals.interrupt_main()
        if not self._noticed.wait(REACTION_S) and signals.is_installed() and signals.received() is None:
            error = self.build_error()
            signals.begin_again(error)
            signals.end_at_once(f"error: {error}", error.exit_code)


class _State:
    """Holds what is watched at the moment."""

    watch: RayWatch | None = None


def watch_local() -> None:
    """Watches the local Ray that has just been started, and writes down that it is this process's."""
    leftovers.note_local_ray(Path(get_local_node().get_session_dir_path()))
    signals.before_end_at_once(kill_local)
    atexit.register(exit_without_ray, 1)
    _begin(RayWatch("local", {}))


def watch_cluster(name: str, addresses: Addresses) -> None:
    """Watches a cluster: its head, and Ray's process on this node, without which nothing can be sent there."""
    _begin(RayWatch(name, addresses))


def _begin(watch: RayWatch) -> None:
    if _State.watch is not None:
        _State.watch.end()
    _State.watch = watch


def is_lost() -> bool:
    """Tells whether Ray is known to be lost: what asks it for anything would wait in vain."""
    return _State.watch is not None and _State.watch.loss is not None


def run_on_ray(action: Callable[[], R]) -> R:
    """Runs what needs Ray and waits for it.

    Raises:
        RayLostError: Ray was lost meanwhile, or before.
    """
    watch = _State.watch
    if watch is None:
        return action()
    watch.users.append(threading.current_thread())
    try:
        if watch.loss is None:
            return action()
    except RaysweepError:
        raise
    except KeyboardInterrupt:
        if signals.received() is not None or watch.loss is None:
            raise
    except Exception:  # Ray has many errors for it
        if watch.notice() is None:
            raise
    finally:
        watch.users.remove(threading.current_thread())
    if watch.is_local:
        kill_local()
    raise watch.build_error()


class LossCheck(tune.Callback):
    """Ends Ray Tune's loop where Ray is lost, in whatever thread; undoes that it takes a signal for itself."""

    def setup(self, *args: Any, **info: Any) -> None:
        """Sets the handlers of signals again; Ray Tune calls this when it has set its own."""
        signals.keep()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raises where Ray is lost, before the other callbacks wait for its answers; called before them."""
        if is_lost() or find_dead_process():
            raise ConnectionError("Ray is lost")


def find_dead_process() -> str | None:
    """Finds a process of the local Ray that has died and without which it does nothing."""
    node = get_local_node()
    dead = node.dead_processes() if node is not None else []
    return next((kind for kind, _ in dead if kind in ESSENTIAL), None)


def kill_local() -> None:
    """Kills all processes of the local Ray at once: none writes to a trial's folder any more."""
    node = get_local_node()
    if node is not None:
        for infos in list(node.all_processes.values()):
            for info in infos:
                info.process.kill()
        if (session := leftovers.find_session()) is not None:
            leftovers.kill_session(session)


def exit_without_ray(code: int) -> None:
    """Exits at once where Ray is lost, as leaving it in order would wait for it, or may be, as after a signal.

    Whole process groups are signalled, and Ray's own processes with them.
    """
    if is_lost() or find_dead_process() or signals.received() is not None:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        kill_local()
        leftovers.remove_folder()
        os._exit(code)
