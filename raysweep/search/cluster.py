"""The Ray cluster that a run uses: connecting, its nodes, and what a trial takes of them."""

import contextlib
import logging
import os
from collections.abc import Iterator

import ray
from ray import tune

from raysweep.errors import UsageError
from raysweep.search.capacity import Node, Request
from raysweep.search.ray_tune import ENVIRONMENT


def connect(address: str | None) -> None:
    """Connects to a Ray cluster: `address`, else RAY_ADDRESS or the one `ray start` began here, else a local one.

    Raises:
        UsageError: nothing answers at the address.
    """
    if ray.is_initialized():
        return
    os.environ.update(ENVIRONMENT)
    try:
        ray.init(
            address,
            include_dashboard=False,
            runtime_env={"env_vars": ENVIRONMENT} if address != "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"no Ray cluster answers at {address or 'RAY_ADDRESS'}: {error}") from None


def list_nodes() -> list[Node]:
    """The cluster's living nodes."""
    return [
        Node(num_cpus=node["Resources"].get("CPU", 0.0), num_gpus=node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


def tune_resources(request: Request) -> tune.PlacementGroupFactory:
    """What Ray Tune reserves for a trial: one worker's share, or next to nothing for the driver of several."""
    if request.num_workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])
    bundle = {"CPU": request.cpus_per_worker}
    return tune.PlacementGroupFactory(
        [{**bundle, "GPU": request.gpus_per_worker} if request.gpus_per_worker else bundle]
    )


@contextlib.contextmanager
def quiet_tune() -> Iterator[None]:
    """Ray Tune's own messages off: the live table and results.json say it."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray._private", "ray.air")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
