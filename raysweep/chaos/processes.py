"""Kills processes of one search: found on this machine by descent, on a cluster by the job that they work for."""

import os
import signal
from collections.abc import Callable
from typing import Any

import ray  # also brings psutil
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.cluster.ray_internals import actors, jobs

TRIAL = "ImplicitFunc"
"""Ray's class of the actor that a trial runs in."""
WORKER = "RayTrainWorker"
"""Ray's class of the actor that a DDP worker runs in."""
TIMEOUT_S = 60.0


class LocalProcesses:
    """The processes below a driver that started a Ray of its own."""

    def __init__(self, driver: int) -> None:
        import psutil  # type: ignore[import-untyped]

        self._driver = psutil.Process(driver)
        self._gone: type[Exception] = psutil.NoSuchProcess
        self._seen: set[Any] = set()
        """All descendants that were ever seen: Ray's daemons outlive a driver that is killed."""

    def look(self) -> list[Any]:
        """Lists the living descendants, and remembers them."""
        try:
            found = self._driver.children(recursive=True)
        except self._gone:
            return []
        self._seen.update(found)
        return [process for process in found if process.is_running()]

    def kill_actor(self, class_name: str) -> str | None:
        """Kills a process that runs an actor of Ray's class; returns which, none: there is none."""
        return self._kill(lambda words: words[0].startswith(f"ray::{class_name}"))

    def kill_daemon(self, program: str) -> str | None:
        """Kills one of Ray's daemons by the name of its program; returns which, none: there is none."""
        return self._kill(lambda words: words[0].rpartition("/")[2] == program)

    def _kill(self, matches: Callable[[list[str]], bool]) -> str | None:
        for process in self.look():
            try:
                words = process.cmdline()
                if words and matches(words):
                    process.kill()
                    return f"process {process.pid}"
            except self._gone:
                continue
        return None

    def list_left(self) -> list[str]:
        """Lists the descendants that are still there, whoever is their parent now."""
        self.look()
        return [f"{process.name()} ({process.pid})" for process in self._seen if _runs(process)]

    def clear(self) -> None:
        """Kills all that is left."""
        self.look()
        for process in self._seen:
            if _runs(process):
                process.kill()


def _runs(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class ClusterProcesses:
    """The processes of a driver's job on the cluster that this process is connected to; nobody else's is touched."""

    def __init__(self, driver: int) -> None:
        self._driver = driver

    def kill_actor(self, class_name: str) -> str | None:
        """Kills a process that runs an actor of Ray's class for the job; returns which, none: there is none."""
        here = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        mine = {
            job["JobID"]
            for job in jobs()  # type: ignore[no-untyped-call]
            if (job["DriverIPAddress"], job["DriverPid"]) == (here, self._driver) and not job["IsDead"]
        }
        for actor in actors(actor_state_name="ALIVE").values() if mine else ():
            if actor["JobID"] in mine and actor["ActorClassName"] == class_name:
                node = actor["Address"]["NodeID"]
                ray.get(start_on_node(node, os.kill, actor["Pid"], signal.SIGKILL), timeout=TIMEOUT_S)
                return f"process {actor['Pid']} on {actor['Address']['IPAddress']}"
        return None


def start_on_node(node_id: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Starts a task that calls a function on a node of the cluster; it asks for no CPU."""
    task: Any = ray.remote(function).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
    )
    return task.remote(*arguments)
