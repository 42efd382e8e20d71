"""Holds all that raysweep uses of Ray's private modules, guarded: another Ray may lack it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import ray

from raysweep.errors import UsageError

KNOWN_VERSIONS = "2.58 to 2.60"
"""The versions of Ray that the tests passed with; `dependencies` in pyproject.toml has the same."""


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Turns the lack of a private part of Ray into one sentence.

    Raises:
        UsageError: the Ray that is installed lacks a part that raysweep needs.
    """
    try:
        yield
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"raysweep is known to work with Ray {KNOWN_VERSIONS}, and Ray {ray.__version__}, which is installed, "
            f"lacks a part that it needs ({error}); install one of these: pip install -r requirements.lock"
        ) from error


with guard():
    import ray._private.worker as worker
    from ray._private import ray_constants
    from ray._private.services import canonicalize_bootstrap_address as canonicalize_bootstrap_address
    from ray._private.services import find_bootstrap_address as find_bootstrap_address
    from ray._private.state import actors as actors
    from ray._private.state import jobs as jobs
    from ray._private.state import state
    from ray._private.worker import get_dashboard_url as get_dashboard_url
    from ray._raylet import AuthenticationMode, get_authentication_mode  # type: ignore[attr-defined]
    from ray.core.generated.common_pb2 import NodeDeathInfo  # type: ignore[attr-defined]
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]

    IDLE: int = NodeDeathInfo.AUTOSCALER_DRAIN_IDLE
    """Ray's reason for a node that the autoscaler took away because it had nothing to do."""
    TOKEN = AuthenticationMode.TOKEN


def is_authenticated() -> bool:
    """Checks whether Ray in this process takes and sends commands only with a token."""
    return bool(get_authentication_mode() == TOKEN)


def get_local_node() -> Any:
    """Returns Ray's record of the local Ray that this process has started, with its processes; none: there is none."""
    with guard():
        node = worker._global_node
    return node if node is not None and node.is_head() else None


def silence_ray() -> None:
    """Has Ray print nothing of its own processes on stdout, which is for results."""
    worker.print_to_stdstream = lambda data, ignore_prefix: None


@contextlib.contextmanager
def ray_on_loopback() -> Iterator[None]:
    """Has a Ray that starts meanwhile listen on 127.0.0.1, by what Ray itself does on macOS and Windows."""
    before = getattr(ray_constants, "ENABLE_RAY_CLUSTER", None)
    if before is not None:
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        if before is not None:
            ray_constants.ENABLE_RAY_CLUSTER = before


def list_orphaned_groups(job_id: str) -> list[bytes]:
    """Lists the ids of the placement groups that a dead actor of the job made and that are not yet removed."""
    with guard():
        table = state._connect_and_get_accessor().get_placement_group_table()
        groups = [PlacementGroupTableData.FromString(text) for text in table]
        return [
            group.placement_group_id
            for group in groups
            if group.creator_job_id.hex() == job_id
            and group.creator_actor_id.strip(b"\xff")
            and group.creator_actor_dead
            and group.state != PlacementGroupTableData.REMOVED
        ]


def get_trial_killer(tune_controller: Any) -> Callable[[], None]:
    """Returns what kills the processes of all trials of a Ray Tune run and gives back what they held."""
    with guard():
        cleanup: Callable[[], None] = tune_controller._actor_manager.cleanup
        return cleanup


def health_check_errors() -> tuple[type[Exception], type[Exception]]:
    """Returns Ray Train's errors of a worker that failed its health check, and of one that never answered it."""
    with guard():
        from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

        return WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError


def close_pickle_port() -> None:
    """Has this process, a replica of Ray Serve that starts, open no port for requests of other deployments.

    Ray opens one on all addresses, without its token, and unpickles what comes: whoever reaches it runs code. Requests
    of the proxy come by another way.
    """
    with guard():
        from grpc.aio._server import Server  # type: ignore[import-untyped]

        for name in ("add_insecure_port", "add_secure_port"):
            getattr(Server, name)
            setattr(Server, name, lambda server, address, *credentials: 0)
