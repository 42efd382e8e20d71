"""Frees the resources of a DDP trial whose own process was killed."""

import time
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import PlacementGroup, remove_placement_group

from raysweep.cluster.ray_internals import list_orphaned_groups

PERIOD_S = 2.0


class OrphanCollector(tune.Callback):
    """Removes the placement groups of DDP workers whose Ray Train controller is dead, while Ray Tune runs.

    The controller is an actor. Ray keeps a placement group that an actor made until the job ends, too, and Ray
    Train's own helper against that needs the dashboard, which a local cluster of ours does not have: the trial's
    next attempt would wait for its CPUs for ever.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Removes orphans every PERIOD_S; Ray Tune calls this several times a second."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PERIOD_S
            remove_orphans()


def remove_orphans() -> None:
    """Removes the placement groups of this job that a dead actor made."""
    for group_id in list_orphaned_groups(ray.get_runtime_context().get_job_id()):
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group_id)))
