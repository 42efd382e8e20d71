"""Counts the trials that fit on a cluster at once: pure functions of its nodes and of one trial's request."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from raysweep.config import require
from raysweep.errors import UsageError

CUDA_CONTEXT_BYTES = 600 * 2**20
"""Memory of a GPU that each process on it takes before its first tensor: CUDA's context and the kernels that torch
loads. Estimated; benchmarks/gpu prints what it is on a card."""
MAX_PER_GPU = 16
"""Trials on a GPU at most, where their number is chosen: beyond, the driver of a search is what they would wait for."""
GPU_SHARE = 0.9
"""Part of a GPU's memory that is dealt out to trials: points of the space take more than the baseline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """The resources of a node."""

    num_cpus: float
    num_gpus: float = 0.0
    memory_bytes: float = field(default=0.0, compare=False)
    """Memory that Ray leaves to processes; 0: not known. Not compared: it differs a little among nodes of one kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Resources that one trial asks for."""

    num_workers: int = 1
    """DDP workers; 1 trains in the trial's own process."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        require(self.num_workers >= 1, "--workers must be at least 1", self.num_workers)
        require(self.cpus_per_worker > 0, "--cpus-per-worker must be above 0", self.cpus_per_worker)
        require(self.gpus_per_worker >= 0, "--gpus-per-worker must be 0 or more", self.gpus_per_worker)
        require(
            self.gpus_per_worker <= 1 or self.gpus_per_worker == int(self.gpus_per_worker),
            "--gpus-per-worker above 1 must be a whole number: only one GPU is shared",
            self.gpus_per_worker,
        )
        require(
            self.num_workers == 1 or self.gpus_per_worker == int(self.gpus_per_worker),
            "--gpus-per-worker with several --workers must be a whole number: two workers of a trial cannot share a "
            "GPU (NCCL)",
            self.gpus_per_worker,
        )


def default_request(
    nodes: Sequence[Node], *, num_workers: int, cpus_per_worker: float | None, gpus_per_worker: float | None
) -> Request:
    """Fills in a request's defaults.

    A worker has a GPU where there are any, and then its share of the CPUs on the node with the fewest for each GPU;
    without GPUs one CPU.
    """
    gpu_nodes = [node for node in nodes if node.num_gpus >= 1]
    gpus = gpus_per_worker if gpus_per_worker is not None else (1.0 if gpu_nodes else 0.0)
    cpus = cpus_per_worker
    if cpus is None:
        cpus = 1.0
        if gpus and gpu_nodes:
            cpus = max(1.0, math.floor(min(node.num_cpus / node.num_gpus for node in gpu_nodes) * gpus))
    return Request(num_workers=num_workers, cpus_per_worker=cpus, gpus_per_worker=gpus)


def count_workers(node: Node, request: Request) -> int:
    """Counts the workers of the request that fit on a node, GPU by GPU: a share is of one, not of several."""
    by_cpu = math.floor(node.num_cpus / request.cpus_per_worker + 1e-9)
    if not request.gpus_per_worker:
        return by_cpu
    if request.gpus_per_worker < 1:
        return min(by_cpu, math.floor(node.num_gpus) * count_per_gpu(request))
    return min(by_cpu, math.floor(node.num_gpus / request.gpus_per_worker))


def count_per_gpu(request: Request) -> int:
    """Counts the workers of the request that share a GPU; 1 where each has one or more, or none."""
    return math.floor(1 / request.gpus_per_worker + 1e-9) if 0 < request.gpus_per_worker < 1 else 1


def choose_per_gpu(nodes: Sequence[Node], *, gpu_bytes: int, gpu_total_bytes: int, memory_bytes: int) -> int:
    """Chooses how many trials share a GPU: as many as its memory, the cores and the memory beside it hold; at least 1.

    gpu_bytes, memory_bytes: what a trial takes of a GPU, CUDA's own apart, and of its node, as a probe has measured.
    """
    by_gpu = math.floor(GPU_SHARE * gpu_total_bytes / (gpu_bytes + CUDA_CONTEXT_BYTES))
    gpu_nodes = [node for node in nodes if node.num_gpus >= 1]
    by_node = [
        node_share
        for node in gpu_nodes
        for node_share in (
            math.floor(node.num_cpus / node.num_gpus),
            *([math.floor(node.memory_bytes / memory_bytes / node.num_gpus)] if node.memory_bytes else []),
        )
    ]
    return max(1, min(by_gpu, MAX_PER_GPU, *by_node))


def share_gpu(request: Request, nodes: Sequence[Node], per_gpu: int, cpus_per_worker: float | None) -> Request:
    """Returns the request of one of so many trials that share a GPU and, unless they are given, the CPUs beside it."""
    cpus = min(node.num_cpus / node.num_gpus for node in nodes if node.num_gpus >= 1)
    own_cpus = cpus_per_worker or max(1.0, math.floor(cpus / per_gpu))
    return replace(request, gpus_per_worker=1 / per_gpu, cpus_per_worker=own_cpus)


def count_concurrent_trials(nodes: Sequence[Node], request: Request) -> int:
    """Counts the trials that run side by side. They may have all CPUs: decoding is done before they start.

    Raises:
        UsageError: not even one trial fits; the message shows the arithmetic.
    """
    workers = sum(count_workers(node, request) for node in nodes)
    concurrency = workers // request.num_workers
    if concurrency == 0:
        have = "; ".join(
            f"{node.num_cpus:g} CPUs and {node.num_gpus:g} GPUs hold {count_workers(node, request)}" for node in nodes
        )
        raise UsageError(
            f"a trial asks for {request.num_workers} worker(s) of {request.cpus_per_worker:g} CPU and "
            f"{request.gpus_per_worker:g} GPU, the cluster's {len(nodes)} node(s) hold {workers} ({have}); "
            "lower --workers, --cpus-per-worker or --gpus-per-worker, or add nodes"
        )
    return concurrency
