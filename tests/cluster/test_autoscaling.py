"""Nodes that an autoscaler may add are planned for: with none alive yet, trials ask for GPUs all the same."""

from typing import Any

import pytest

from raysweep.cluster.autoscaling import nodes_to_come
from raysweep.cluster.capacity import Node, count_concurrent_trials, default_request

HEAD, GPU = Node(num_cpus=8), Node(num_cpus=4, num_gpus=1)


def make_config(max_workers: int = 4, gpu_workers: int = 4) -> dict[str, Any]:
    return {
        "max_workers": max_workers,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 8}, "max_workers": 0},
            "gpu": {"resources": {"CPU": 4, "memory": 1 << 33, "GPU": 1}, "max_workers": gpu_workers},
        },
    }


@pytest.mark.parametrize(
    ("config", "living", "num_coming"),
    [
        (make_config(), [HEAD], 4),
        (make_config(), [HEAD, GPU, GPU], 2),
        (make_config(), [HEAD, *[GPU] * 4], 0),
        (make_config(), [HEAD, *[GPU] * 6], 0),
        (make_config(max_workers=2), [HEAD], 2),
        (make_config(max_workers=2), [HEAD, GPU], 1),
        (make_config(gpu_workers=1), [HEAD], 1),
    ],
)
def test_what_may_be_added_is_within_both_limits(config: dict[str, Any], living: list[Any], num_coming: int) -> None:
    assert nodes_to_come(config, living) == [GPU] * num_coming


def test_machines_of_ones_own_are_there_or_not() -> None:
    config = {
        "max_workers": 2,
        "head_node_type": "local.cluster.node",
        "available_node_types": {"local.cluster.node": {"resources": {}, "max_workers": 2}},
    }
    assert nodes_to_come(config, [HEAD]) == []


def test_a_trial_asks_for_a_gpu_before_any_gpu_node_is_there() -> None:
    nodes = [HEAD, *nodes_to_come(make_config(), [HEAD])]
    request = default_request(nodes, num_workers=1, cpus_per_worker=None, gpus_per_worker=None)
    assert (request.gpus_per_worker, request.cpus_per_worker) == (1, 4)
    assert count_concurrent_trials(nodes, request) == 4
