"""Lists nodes that the autoscaler may add: trials are sized for them too, or none would ever be asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.cluster.capacity import Node


def nodes_to_come(config: Mapping[str, Any], living: Sequence[Node]) -> list[Node]:
    """Lists the nodes that the autoscaler can add to the living ones, the head among these.

    `config` is what `ray up` leaves on the head: node types with their resources and limits. A type without resources
    (machines that are there or not, `type: local`) adds none.
    """
    room = max(0, int(config["max_workers"]) - (len(living) - 1))
    coming: list[Node] = []
    for name, kind in config["available_node_types"].items():
        resources = kind.get("resources", {})
        if name != config["head_node_type"] and resources.get("CPU"):
            node = Node(
                num_cpus=resources["CPU"],
                num_gpus=resources.get("GPU", 0),
                memory_bytes=resources.get("memory", 0),
            )
            coming += [node] * (int(kind["max_workers"]) - living.count(node))
    return coming[:room]
