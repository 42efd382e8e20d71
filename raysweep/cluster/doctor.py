"""Examines a cluster: asks every node for facts, and finds what is wrong and the command that mends it."""

import importlib.metadata
import math
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep import atomic_files
from raysweep.announcement import announce
from raysweep.cluster import findings as checks
from raysweep.cluster import mps
from raysweep.cluster.capacity import default_request
from raysweep.cluster.code import code_digest
from raysweep.cluster.connection import connect, list_nodes, list_potential_nodes
from raysweep.cluster.findings import Finding, NodeFacts
from raysweep.cluster.lost_ray import run_on_ray
from raysweep.cluster.ray_internals import get_dashboard_url, is_authenticated, jobs
from raysweep.data.pipeline import reads_files
from raysweep.data.sources import load_source
from raysweep.errors import UsageError
from raysweep.run_folder import cache_folder
from raysweep.study import Study

PACKAGES = ("ray", "torch", "torchvision", "timm", "numpy", "pyarrow")
"""Packages whose versions must be the same on all nodes: those that pickle, train or talk across them."""
ANSWER_TIMEOUT_S = 120.0
"""Long: a first task on a node waits for a worker process to start and the job's code to be unpacked."""
MAX_FILES_TRIED = 50
POD_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""A folder that Kubernetes mounts into every pod."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The cluster, storage and data that the doctor examines."""

    storage: Path
    address: str | None = None
    study: Study | None = None
    """The study whose data must be readable; none: data are not examined."""
    data_root: Path | None = None
    num_workers: int = 1
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None


def diagnose(question: Question) -> list[Finding]:
    """Connects to the cluster and lists the findings; removes the files that it writes to the storage.

    Raises:
        UsageError: nothing answers at the address, or the storage cannot be written from here.
        DataError: the study's images cannot be had here.
    """
    connect(question.address)
    return run_on_ray(lambda: _diagnose(question))


def _diagnose(question: Question) -> list[Finding]:
    data, paths = _look_at_data(question)
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    folder = question.storage / f".doctor-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"--storage must be a folder that can be written to, got {question.storage}: {error}"
        ) from None
    try:
        facts, silent = _ask(alive, _examine, str(folder), paths)
        by_id = {node.node_id: node for node in facts}
        seen, _ = _ask([node for node in alive if node["NodeID"] in by_id], _list_written, str(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    unseen = [
        (by_id[reader].address, writer.address)
        for reader, names in seen
        for writer in facts
        if not writer.write_error and writer.node_id not in names
    ]
    planned = list_potential_nodes()
    request = default_request(
        planned,
        num_workers=question.num_workers,
        cpus_per_worker=question.cpus_per_worker,
        gpus_per_worker=question.gpus_per_worker,
    )
    findings = [
        checks.check_answers([node.address for node in facts], silent, list_nodes()),
        checks.check_versions(facts, list_versions()),
        checks.check_code(facts, code_digest()),
        checks.check_authentication(facts, is_authenticated()),
        checks.check_dashboard(get_dashboard_url() or "", in_pod=POD_ACCOUNT.is_dir()),  # type: ignore[no-untyped-call]
        checks.check_storage(str(question.storage), facts, unseen),
        checks.check_gpus(facts, {node["NodeID"]: node["Resources"].get("GPU", 0.0) for node in alive}),
        checks.check_mps(facts, request),
        checks.check_resources(planned, request),
        checks.check_placement_groups(list_leaked()),
    ]
    return [*findings, checks.check_data(data, len(paths), facts)] if data else findings


def _look_at_data(question: Question) -> tuple[str, list[str]]:
    """Finds the name of the study's data ("" without a study), and some of its files to try: none once decoded."""
    if question.study is None:
        return "", []
    config = question.study.data
    source = load_source(
        config.source, split_seed=config.split_seed, storage=question.storage, data_root=question.data_root
    )
    if not reads_files(source, config, cache_folder(question.storage)):
        return source.name, []
    paths = list(dict.fromkeys(path for records in source.records.values() for path in records.paths))
    return source.name, paths[:: math.ceil(len(paths) / MAX_FILES_TRIED)]


def _ask(nodes: Sequence[Any], function: Callable[..., Any], *arguments: Any) -> tuple[list[Any], list[str]]:
    """Calls `function(node_id, address, *arguments)` on each of Ray's nodes; returns results and silent addresses.

    The tasks ask for no CPU: a doctor has to be heard on a busy cluster too.
    """
    asked = {}
    for node in nodes:
        pinned: Any = ray.remote(function).options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        asked[pinned.remote(node["NodeID"], node["NodeManagerAddress"], *arguments)] = node["NodeManagerAddress"]
    with announce("every node to answer"):
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_TIMEOUT_S)
    answers, silent = [], [asked[reference] for reference in late]
    for reference in ready:
        try:
            answers.append(ray.get(reference))
        except ray.exceptions.RayError:
            silent.append(asked[reference])
    return answers, silent


def _examine(node_id: str, address: str, folder: str, paths: Sequence[str]) -> NodeFacts:
    """Collects a node's facts there; leaves a file with its id as the name in the storage's folder."""
    error = ""
    try:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        atomic_files.write_text(Path(folder) / node_id, node_id)
    except OSError as caught:
        error = str(caught)
    return NodeFacts(
        node_id=node_id,
        address=address,
        versions=list_versions(),
        code=code_digest(),
        authenticated=is_authenticated(),
        visible_gpus=_count_visible_gpus(),
        has_mps=mps.serves(),
        write_error=error,
        unreadable=[path for path in paths if not os.access(path, os.R_OK)],
    )


def _list_written(node_id: str, address: str, folder: str) -> tuple[str, list[str]]:
    """Lists, on a node, the nodes whose files it can read; returns its id too."""
    written = [path for path in Path(folder).glob("*") if path.is_file()]
    return node_id, [path.name for path in written if path.read_text() == path.name]


def _count_visible_gpus() -> int:
    """Counts torch's GPUs. The task asks Ray for none, and with the environment of our jobs Ray then hides none."""
    import torch

    return torch.cuda.device_count()


def list_versions() -> dict[str, str]:
    """Lists the versions of Python and of PACKAGES in this process."""
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def list_leaked() -> list[str]:
    """Lists the ids of placement groups whose jobs have ended."""
    groups = {name: group["state"] for name, group in placement_group_table().items()}
    living = [job["JobID"] for job in jobs() if not job["IsDead"]]  # type: ignore[no-untyped-call]
    return checks.find_leaked(groups, living)


def remove_leaked(address: str | None) -> list[str]:
    """Removes the placement groups whose jobs have ended; returns their ids."""
    connect(address)
    leaked = list_leaked()
    for name in leaked:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(name))))
    return leaked
