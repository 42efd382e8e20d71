"""How many trials fit: tables of nodes and requests."""

from typing import Any

import pytest

from raysweep.cluster.capacity import (
    CUDA_CONTEXT_BYTES,
    MAX_PER_GPU,
    Node,
    Request,
    choose_per_gpu,
    count_concurrent_trials,
    default_request,
    share_gpu,
)
from raysweep.errors import UsageError

LAPTOP = [Node(num_cpus=2)]
GPU_NODES = [Node(num_cpus=8), Node(num_cpus=16, num_gpus=4), Node(num_cpus=8, num_gpus=1)]


@pytest.mark.parametrize(
    ("nodes", "request_", "concurrency"),
    [
        (LAPTOP, Request(), 2),
        (LAPTOP, Request(cpus_per_worker=2), 1),
        (LAPTOP, Request(cpus_per_worker=0.5), 4),
        (LAPTOP, Request(num_workers=2), 1),
        (GPU_NODES, Request(cpus_per_worker=4, gpus_per_worker=1), 5),
        (GPU_NODES, Request(cpus_per_worker=1, gpus_per_worker=0.5), 10),
        (GPU_NODES, Request(num_workers=4, cpus_per_worker=4, gpus_per_worker=1), 1),
        ([Node(num_cpus=8, num_gpus=2)], Request(gpus_per_worker=0.4), 4),  # not 2 / 0.4 = 5
        ([Node(num_cpus=64, num_gpus=8)], Request(gpus_per_worker=0.34), 16),
        ([Node(num_cpus=64, num_gpus=3)], Request(gpus_per_worker=0.7), 3),
        ([Node(num_cpus=64, num_gpus=3)], Request(gpus_per_worker=0.1), 30),
        ([Node(num_cpus=64, num_gpus=1)], Request(gpus_per_worker=1 / 3), 3),
        ([Node(num_cpus=64, num_gpus=7)], Request(gpus_per_worker=2), 3),
        ([Node(num_cpus=3, num_gpus=2)], Request(gpus_per_worker=0.25), 3),
        ([Node(num_cpus=3)] * 3, Request(num_workers=2, cpus_per_worker=2), 1),
    ],
)
def test_concurrency(nodes: list[Node], request_: Request, concurrency: int) -> None:
    assert count_concurrent_trials(nodes, request_) == concurrency


@pytest.mark.parametrize(
    "request_",
    [
        Request(cpus_per_worker=3),
        Request(num_workers=3),
        Request(gpus_per_worker=1),
        Request(num_workers=2, cpus_per_worker=2),
    ],
)
def test_what_can_never_fit_fails_with_the_arithmetic(request_: Request) -> None:
    with pytest.raises(UsageError, match=r"the cluster's 1 node\(s\) hold \d .*2 CPUs and 0 GPUs hold \d"):
        count_concurrent_trials(LAPTOP, request_)


def test_defaults_follow_the_cluster() -> None:
    assert default_request(LAPTOP, num_workers=1, cpus_per_worker=None, gpus_per_worker=None) == Request()
    assert default_request(GPU_NODES, num_workers=2, cpus_per_worker=None, gpus_per_worker=None) == Request(
        num_workers=2, cpus_per_worker=4, gpus_per_worker=1
    )
    assert default_request(GPU_NODES, num_workers=1, cpus_per_worker=None, gpus_per_worker=0).cpus_per_worker == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_workers": 0}, "--workers"),
        ({"cpus_per_worker": 0}, "--cpus-per-worker"),
        ({"gpus_per_worker": -1}, "--gpus"),
        ({"gpus_per_worker": 1.5}, "--gpus-per-worker above 1 must be a whole number.*got 1.5"),
        ({"num_workers": 2, "gpus_per_worker": 0.5}, "several --workers must be a whole number.*got 0.5"),
    ],
)
def test_a_request_is_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(**values)


GB = 10**9
OWN = 2 * GB - CUDA_CONTEXT_BYTES


@pytest.mark.parametrize(
    ("node", "gpu_total_bytes", "per_gpu"),
    [
        (Node(num_cpus=64, num_gpus=1), 10 * GB, 4),  # 0.9 x 10 / 2
        (Node(num_cpus=64, num_gpus=1), 80 * GB, MAX_PER_GPU),
        (Node(num_cpus=12, num_gpus=2), 80 * GB, 6),
        (Node(num_cpus=64, num_gpus=2, memory_bytes=30 * GB), 80 * GB, 5),  # 3 GB a process
        (Node(num_cpus=64, num_gpus=1), 1 * GB, 1),
    ],
)
def test_a_gpu_is_shared_by_as_many_as_memory_and_cores_hold(node: Node, gpu_total_bytes: int, per_gpu: int) -> None:
    found = choose_per_gpu(
        [Node(num_cpus=1), node], gpu_bytes=OWN, gpu_total_bytes=gpu_total_bytes, memory_bytes=3 * GB
    )
    assert found == per_gpu


def test_trials_that_share_a_gpu_share_the_cpus_beside_it() -> None:
    whole = Request(cpus_per_worker=4, gpus_per_worker=1)
    assert share_gpu(whole, GPU_NODES, 3, None) == Request(cpus_per_worker=1, gpus_per_worker=1 / 3)
    assert count_concurrent_trials(GPU_NODES, share_gpu(whole, GPU_NODES, 3, None)) == 15
    assert share_gpu(whole, GPU_NODES, 2, 0.5).cpus_per_worker == 0.5
