"""Prints that the search waits where the cluster has too few nodes left for a trial."""

import sys
import time
from typing import Any

from ray import tune

from raysweep.cluster.capacity import Request, count_workers
from raysweep.cluster.connection import list_nodes

PERIOD_S = 2.0
PATIENCE_S = 20.0
"""How long a cluster is too small before stderr says so; an autoscaled one is that at every start."""


class WaitingNotice(tune.Callback):
    """Prints that a search waits for nodes: Ray Tune itself waits without a word."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._next = 0.0
        self._small_since: float | None = None
        self._told = False

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Looks at the nodes every PERIOD_S; Ray Tune calls this several times a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PERIOD_S
        nodes = list_nodes()
        message = self.look(sum(count_workers(node, self.request) for node in nodes), len(nodes), now)
        if message is not None:
            print(message, file=sys.stderr)

    def look(self, num_workers: int, num_nodes: int, now: float) -> str | None:
        """Decides on the message when the cluster has room for `num_workers` workers at the time `now`, in seconds."""
        if num_workers >= self.request.num_workers:
            told, self._told, self._small_since = self._told, False, None
            return "the cluster has room for a trial again: the search goes on" if told else None
        self._small_since = now if self._small_since is None else self._small_since
        if self._told or now - self._small_since < PATIENCE_S:
            return None
        self._told = True
        request = self.request
        return (
            f"waiting for nodes: a trial takes {request.num_workers} worker(s) of {request.cpus_per_worker:g} CPU and "
            f"{request.gpus_per_worker:g} GPU, the cluster's {num_nodes} node(s) have room for {num_workers}; "
            "Ctrl-C ends the search, --resume goes on with it"
        )
