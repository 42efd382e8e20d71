"""Connects to a Ray cluster; the driver's settings and code travel with the job."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import ray

from raysweep import file_guard, signals
from raysweep.announcement import announce
from raysweep.cluster import leftovers
from raysweep.cluster.autoscaling import nodes_to_come
from raysweep.cluster.capacity import Node
from raysweep.cluster.code import package_folders, pin_packages
from raysweep.cluster.local_ray import find_interface, keep_local
from raysweep.cluster.lost_nodes import answers
from raysweep.cluster.lost_ray import AGAIN, LOCAL_CONFIG, run_on_ray, watch_cluster, watch_local
from raysweep.cluster.ray_internals import canonicalize_bootstrap_address, find_bootstrap_address, silence_ray
from raysweep.cluster.ray_start import watch_start
from raysweep.errors import RayLostError, RaysweepError, UsageError

ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # NodeWatch sees to that
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Environment variables that Ray reads in the driver and in its workers."""
BOOTSTRAP_CONFIG = Path.home() / "ray_bootstrap_config.yaml"
"""The cluster's configuration as JSON, which `ray up` leaves on the head."""


_connected_to: str | None = None
"""What this process has connected to: HOST:PORT, or `local`; none: nothing, or Ray was started by other code."""


def connect(address: str | None) -> None:
    """Connects to a Ray cluster: `address`, else RAY_ADDRESS or the one `ray start` began here, else a local one.

    Workers of a cluster run the driver's raysweep. Those of a local Ray do so anyway: they inherit the driver's
    environment and folder, and need none of the seconds that packing and unpacking takes.

    Raises:
        UsageError: nothing answers at the address, or this process is connected to another.
    """
    if ray.is_initialized():
        if _connected_to is not None and address not in (None, "auto", _connected_to):
            raise UsageError(
                f"a process is connected to one Ray at a time, this one to {_connected_to}, got the address {address}; "
                "call ray.shutdown() first, or leave the address out"
            )
        return
    _start(find_address(address))


def _start(found: str | None) -> None:
    """Connects to the cluster at HOST:PORT, or starts a local Ray, and has it watched."""
    global _connected_to
    os.environ.update(ENVIRONMENT)
    _connected_to = found or "local"
    silence_ray()
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if found is None:
            leftovers.clear()
            with announce("a local Ray to start"), keep_local() as local, watch_start():
                ray.init("local", _system_config=LOCAL_CONFIG, **local, **options)
        else:
            with announce(f"Ray at {found}"):
                ray.init(found, runtime_env=job_environment(), **options)
    except RaysweepError:
        raise
    except Exception as error:  # Ray has many, and plain ones
        if found and isinstance(error, ConnectionError | ValueError):
            raise UsageError(f"no Ray cluster answers at {found}: {error}") from None
        raise RayLostError(
            f"Ray at {_connected_to} did not start: {' '.join(str(error).split())[:300]}; {AGAIN}",
            lost="Ray",
            is_local=False,
        ) from error
    signals.keep()
    if found:
        watch_cluster(found, _essential_addresses(found))
    else:
        watch_local()


def _essential_addresses(cluster: str) -> dict[str, tuple[str, int]]:
    """Returns where the head and Ray's process on this node listen, by their names."""
    host, _, port = cluster.rpartition(":")
    here = ray.get_runtime_context().get_node_id()
    raylets = {
        f"the raylet on {node['NodeManagerAddress']}": (node["NodeManagerAddress"], node["NodeManagerPort"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["NodeID"] == here
    }
    return {"the head": (host.strip("[]"), int(port)), **raylets}


def find_address(address: str | None) -> str | None:
    """Finds host and port of the cluster to connect to (see `connect`), or None: a local Ray is to be started.

    Ray itself waits five minutes for an address where nothing listens. A cluster that crashed leaves its address in
    Ray's temporary folder: where nobody asked for a cluster, that is no reason not to start.

    Raises:
        UsageError: the address is none, `auto` finds no cluster, or nothing listens there.
    """
    try:
        found = canonicalize_bootstrap_address(address)  # type: ignore[arg-type]
    except (ConnectionError, ValueError) as error:
        raise UsageError(
            f"--address and RAY_ADDRESS must be HOST:PORT of a cluster's head, `auto` or `local`: {error}"
        ) from None
    if found is None:
        return None
    host, _, port = found.rpartition(":")
    if answers((host.strip("[]"), int(port))):
        return found
    left = find_bootstrap_address(None)
    if address is None and left and canonicalize_bootstrap_address(left) == found:
        print(f"Ray began at {found} earlier, and nothing answers there now: starting a local Ray", file=sys.stderr)
        return None
    raise UsageError(
        f"no Ray cluster answers at {found}; start it (`ray up`, `ray start --head`), or leave out --address and "
        "RAY_ADDRESS: then this machine is enough"
    )


def job_environment() -> dict[str, Any]:
    """Builds the runtime environment of a job on a cluster."""
    return {
        "env_vars": dict(ENVIRONMENT),
        "py_modules": package_folders(),
        "worker_process_setup_hook": "raysweep.cluster.connection.prepare_worker",
    }


def prepare_worker() -> None:
    """Prepares a worker process of a cluster as it starts; Ray calls this.

    gloo, which carries DDP without GPUs, listens where the host's own name points to: 127.0.1.1 on many a machine,
    where no other node reaches it. It is told the network that Ray uses.
    """
    import psutil  # type: ignore[import-untyped]  # comes with Ray, and is found once Ray is imported

    pin_packages()
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    interface = find_interface(address, psutil.net_if_addrs())
    if interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)


def list_nodes() -> list[Node]:
    """Lists the cluster's living nodes."""
    return [
        Node(
            num_cpus=node["Resources"].get("CPU", 0.0),
            num_gpus=node["Resources"].get("GPU", 0.0),
            memory_bytes=node["Resources"].get("memory", 0.0),
        )
        for node in run_on_ray(ray.nodes)
        if node["Alive"]
    ]


def list_potential_nodes() -> list[Node]:
    """Lists the living nodes and, where the driver runs on the head, those that the autoscaler may add."""
    nodes = list_nodes()
    here = ray.get_runtime_context().get_node_id()
    heads = [node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]  # type: ignore[no-untyped-call]
    if here not in heads or not BOOTSTRAP_CONFIG.is_file():
        return nodes
    coming: list[Node] = file_guard.read_json(
        BOOTSTRAP_CONFIG,
        "the configuration of this head's cluster",
        "`ray up` writes it again",
        lambda config: nodes_to_come(config, nodes),
    )
    return nodes + coming
