"""Prints that the search waits where no trial can run: Ray Tune itself waits without a word."""

import sys
import time
from typing import Any

from ray import tune

from raysweep.announcement import PERIOD_S as NOTICE_PERIOD_S
from raysweep.cluster.capacity import Request, count_workers
from raysweep.cluster.connection import list_nodes

PERIOD_S = 2.0
PATIENCE_S = 20.0
"""How long no trial runs before stderr says so; an autoscaled cluster is too small at every start."""


class WaitingNotice(tune.Callback):
    """Prints every half minute that a search waits, and for what."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._next = 0.0
        self._since: float | None = None
        self._said: float | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Looks at trials and nodes every PERIOD_S; Ray Tune calls this several times a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PERIOD_S
        nodes = list_nodes()
        num_workers = sum(count_workers(node, self.request) for node in nodes)
        under_way = [trial for trial in trials if not trial.is_finished()]
        idle = bool(under_way) and not any(trial.status == "RUNNING" for trial in under_way)
        message = self.look(num_workers, len(nodes), now, idle=idle)
        if message is not None:
            print(message, file=sys.stderr)

    def look(self, num_workers: int, num_nodes: int, now: float, *, idle: bool = False) -> str | None:
        """Decides on the message at the time `now`, in seconds.

        num_workers: for so many the cluster has room. idle: no trial runs, and some are to.
        """
        is_small = num_workers < self.request.num_workers
        if not is_small and not idle:
            said, self._said, self._since = self._said, None, None
            return "the search goes on" if said is not None else None
        self._since = now if self._since is None else self._since
        if now - self._since < PATIENCE_S or (self._said is not None and now - self._said < NOTICE_PERIOD_S):
            return None
        self._said = now
        request = self.request
        size = f"{request.num_workers} worker(s) of {request.cpus_per_worker:g} CPU and {request.gpus_per_worker:g} GPU"
        room = f"the cluster's {num_nodes} node(s) have room for {num_workers}"
        what = "nodes" if is_small else "room that others have taken, or for processes to start"
        return (
            f"waiting for {what}, for {now - self._since:.0f} s by now: a trial takes {size}, {room}; "
            "Ctrl-C ends the search, --resume goes on with it"
        )
