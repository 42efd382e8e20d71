"""Finds the nodes that a cluster has lost, before Ray notices."""

import socket
import time
from collections.abc import Mapping
from typing import Any

import ray

from raysweep.cluster.ray_internals import IDLE

Addresses = Mapping[str, tuple[str, int]]
"""Host and port of the raylets, Ray's process on each node, by the nodes' ids."""
CONNECT_TIMEOUT_S = 2.0
GRACE_S = 3.0
"""Time to wait: a machine that is shut down may end a trial's process before Ray's own."""


class NodeWatch:
    """Finds lost nodes of the cluster that this process is connected to."""

    def list_living(self) -> Addresses:
        """Lists the nodes that Ray counts as alive."""
        return {
            node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"])
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"]
        }

    def find_lost(self, nodes: Addresses) -> list[str]:
        """Finds the hosts of those nodes that do not answer, or are gone for another reason than being idle.

        Called when a trial's process has died, which Ray often knows up to half a minute before it misses the node.
        """
        deadline = time.monotonic() + GRACE_S
        while not (lost := self._look(nodes)) and len(nodes) > 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        return lost

    def _look(self, nodes: Addresses) -> list[str]:
        known = {node["NodeID"]: node for node in ray.nodes()}  # type: ignore[no-untyped-call]
        return sorted(address[0] for node, address in nodes.items() if is_lost(known.get(node), address))


def is_lost(known: Mapping[str, Any] | None, address: tuple[str, int]) -> bool:
    """Checks whether a node is lost, by Ray's record of it; Ray forgets nodes that are long dead."""
    if known is None:
        return True
    return not answers(address) if known["Alive"] else bool(known["DeathReason"] != IDLE)


def answers(address: tuple[str, int]) -> bool:
    """Checks whether a TCP connection to host and port can be made."""
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
