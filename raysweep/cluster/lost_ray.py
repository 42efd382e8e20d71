"""Notices that Ray itself is lost: a local one is started again, a cluster's ends the command with one sentence."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray._private.worker
from ray import tune

from raysweep import signals
from raysweep.cluster import leftovers
from raysweep.cluster.lost_nodes import answers
from raysweep.errors import RayLostError, RaysweepError

R = TypeVar("R")
MAX_RESTARTS = 3
"""Times that a local Ray is started again in a run."""
PERIOD_S = 0.5
SILENT_S = 20.0
"""How long a cluster may be silent; Ray itself gives up after 60 seconds, and takes the process along."""
PROBE_PERIOD_S = 2.0
GRACE_S = 1.5
REACTION_S = 20.0
"""How long the main thread may stay in a call of Ray's that never returns."""
ESSENTIAL = ("gcs_server", "raylet")
"""The processes without which a local Ray does nothing, by Ray's names."""
Address = tuple[str, int]


class RayWatch:
    """Watches the Ray that this process is connected to, in a thread of its own."""

    def __init__(self, name: str, addresses: dict[str, Address]) -> None:
        """`addresses` are those of a cluster's processes, by their names; none: Ray is local."""
        self.name = name
        self.addresses = addresses
        self.users: list[threading.Thread] = []
        """The threads that are in calls of `run_on_ray` at the moment."""
        self.loss: str | None = None
        """What is lost; none: nothing."""
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
        self.loss = self.loss or self._look()
        while self.loss is None and (self._silent_since or time.monotonic() < deadline):
            time.sleep(PERIOD_S)
            self.loss = self.loss or self._look()
        if self.loss:
            self._noticed.set()
        return self.loss

    def describe(self) -> str:
        """Says in one sentence what is lost, and what to do."""
        where = "of the local Ray" if self.is_local else f"of the Ray cluster at {self.name}"
        happened = "has died" if self.is_local else f"has not answered for {SILENT_S:.0f} s"
        mend = "" if self.is_local else "see to the cluster (`ray status`), then "
        return f"{self.loss} {where} {happened}; {mend}go on with --resume"

    def _look(self) -> str | None:
        if self.is_local:
            return find_dead_process()
        return self._probe()

    def _probe(self) -> str | None:
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
            self.loss = self.loss or self._look()
            if self.loss is not None:
                self._react()
                return

    def _react(self) -> None:
        """Interrupts who waits for Ray; where nobody does, leaves Ray, which would end the process."""
        if not self.users:
            shut_down()
        if threading.main_thread() not in self.users:
            return
        signals.interrupt_main()
        if not self._noticed.wait(REACTION_S) and signals.is_installed():
            signals.end_at_once(f"error: {self.describe()}", 1)


class _State:
    """Holds what is watched at the moment, and how to start it again."""

    watch: RayWatch | None = None
    start_again: Callable[[], None] | None = None
    node_id = ""
    num_restarts = 0
    shutting_down = threading.Lock()


def watch_local(start_again: Callable[[], None]) -> None:
    """Watches the local Ray that has just been started, and writes down that it is this process's."""
    _State.node_id = ray.get_runtime_context().get_node_id()
    leftovers.note_local_ray(Path(_local_node().get_session_dir_path()), _State.node_id)
    signals.before_end_at_once(kill_local)
    _begin(RayWatch("local", {}))
    _State.start_again = start_again


def watch_cluster(name: str, addresses: dict[str, Address]) -> None:
    """Watches a cluster, and Ray's process on this node, without which nothing can be sent there."""
    _begin(RayWatch(name, addresses))
    _State.start_again = None


def _begin(watch: RayWatch) -> None:
    if _State.watch is not None:
        _State.watch.end()
    _State.watch = watch


def begin_run() -> None:
    """Counts the restarts anew."""
    _State.num_restarts = 0


def is_lost() -> bool:
    """Tells whether Ray is known to be lost: what asks it for anything would wait in vain."""
    return _State.watch is not None and _State.watch.loss is not None


def run_on_ray(action: Callable[[], R]) -> R:
    """Runs what needs Ray, again where it was lost meanwhile and could be started again.

    Raises:
        RayLostError: Ray was lost, and is a cluster's or was lost too often.
    """
    while True:
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
        _restart(watch)


def _restart(watch: RayWatch) -> None:
    """Starts a lost local Ray again.

    Raises:
        RayLostError: it is a cluster, or was lost too often.
    """
    watch.notice()
    if _State.start_again is None:
        raise RayLostError(watch.describe())
    if _State.num_restarts == MAX_RESTARTS:
        raise RayLostError(f"{watch.describe()}; it had been started again {MAX_RESTARTS} times already")
    _State.num_restarts += 1
    print(
        f"the {watch.loss} of the local Ray has died: Ray is started again ({_State.num_restarts} of {MAX_RESTARTS})",
        file=sys.stderr,
    )
    shut_down()
    _State.start_again()


class LossCheck(tune.Callback):
    """Ends Ray Tune's loop where Ray is lost, in whatever thread; undoes that it takes a signal for itself."""

    def setup(self, *args: Any, **info: Any) -> None:
        """Sets the handlers of signals again; Ray Tune calls this when it has set its own."""
        signals.keep()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raises where Ray is lost, before the other callbacks wait for its answers; called before them."""
        if is_lost() or (_State.watch is not None and _State.watch.is_local and find_dead_process()):
            raise ConnectionError("Ray is lost")


def _local_node() -> Any:
    """Returns the local Ray that this process has started; none: there is none. Ray keeps it under a private name."""
    node = ray._private.worker._global_node
    return node if node is not None and node.is_head() else None


def find_dead_process() -> str | None:
    """Finds a process of the local Ray that has died and without which it does nothing."""
    node = _local_node()
    dead = node.dead_processes() if node is not None else []
    return next((kind for kind, _ in dead if kind in ESSENTIAL), None)


def kill_local() -> None:
    """Kills the processes of the local Ray at once, so that none writes to a trial's folder any more."""
    node = _local_node()
    if node is not None:
        for infos in list(node.all_processes.values()):
            for info in infos:
                info.process.kill()
        leftovers.kill_node(_State.node_id)


def shut_down() -> None:
    """Leaves Ray, and ends a local one with all its processes."""
    with _State.shutting_down, contextlib.suppress(Exception):  # what is lost answers nothing
        kill_local()
        ray.shutdown()


def exit_without_ray(code: int) -> None:
    """Exits at once where Ray is lost: leaving it in order takes up to a minute of waiting for it."""
    if not is_lost() and find_dead_process() is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kill_local()
    os._exit(code)
