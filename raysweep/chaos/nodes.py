"""Loses a node: of a small cluster that is started here for it, or of the cluster that the search runs on."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import ray

from raysweep.chaos.processes import TIMEOUT_S, start_on_node
from raysweep.cluster.ray_internals import jobs
from raysweep.errors import RaysweepError

START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats")
ADDRESS = re.compile(r"--address='([^']+)'")


class Nodes(Protocol):
    """A cluster with a node to lose."""

    def lose(self) -> str:
        """Kills a node; returns which."""


class OwnCluster:
    """Two nodes on this machine, of a CPU each, that belong to the chaos test alone."""

    def __init__(self, environment: Mapping[str, str], stack: contextlib.ExitStack) -> None:
        self.environment = environment
        """What a driver has to have in its environment."""
        self._stack = stack
        head, log = self._start("--head", "--port=0", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
        self.address = ""
        for line in log:
            if found := ADDRESS.search(line):
                self.address = found[1]
                break
        else:
            raise RaysweepError(f"no cluster could be started on this machine: `ray start` ended with {head.wait()}")
        self._node, log = self._start(f"--address={self.address}", "--node-ip-address=127.0.0.1")
        next(line for line in log if "Ray runtime started" in line)

    def _start(self, *arguments: str) -> tuple[subprocess.Popen[str], Any]:
        process = subprocess.Popen(
            [*START, *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._stack.callback(_kill_tree, process)
        return process, process.stdout

    def lose(self) -> str:
        """Kills the second node, all its processes at once."""
        _kill_tree(self._node)
        return "kill -9 of all processes of the second node"


def _kill_tree(process: subprocess.Popen[str]) -> None:
    import psutil  # type: ignore[import-untyped]

    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


@contextlib.contextmanager
def open_own_cluster() -> Iterator[OwnCluster]:
    """Starts two nodes on this machine, and kills what is left of them at the end.

    Raises:
        RaysweepError: they do not start.
    """
    folder = tempfile.mkdtemp(prefix="chaos-")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield OwnCluster({**token, "RAY_TMPDIR": folder}, stack)


class SharedCluster:
    """The cluster that this process is connected to."""

    def lose(self) -> str:
        """Kills the raylet of a node that is neither the head nor this one, from a task on it."""
        node = list_losable()[0]
        ray.wait([start_on_node(node["NodeID"], _kill_raylet)], timeout=TIMEOUT_S)
        return f"kill -9 of the raylet on {node['NodeManagerAddress']}"


def list_losable() -> list[Any]:
    """Lists the living nodes of the connected cluster but the head and the one that this process is on."""
    here = ray.get_runtime_context().get_node_id()
    return [
        node
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["NodeID"] != here and "node:__internal_head__" not in node["Resources"]
    ]


def count_other_jobs() -> int:
    """Counts the living jobs of the connected cluster beside this process's."""
    mine = ray.get_runtime_context().get_job_id()
    return sum(not job["IsDead"] and job["JobID"] != mine for job in jobs())  # type: ignore[no-untyped-call]


def _kill_raylet() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
