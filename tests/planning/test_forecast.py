"""What a search will take, by tables: wall time, memory, disk and prices, from a probe as it might come out."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from optuna.distributions import IntDistribution

from raysweep.cluster.capacity import Node, Request
from raysweep.config import Budget, TrainingConfig
from raysweep.errors import UsageError
from raysweep.planning.estimate import (
    TRAINED_SHARE,
    Probe,
    ProbedPoint,
    count_checkpoint_bytes,
    draw_epochs,
    estimate_wall_time,
    schedule,
)
from raysweep.planning.forecast import Forecast, build_forecast, describe_forecast, forecast_to_json, nodes_in_use
from raysweep.planning.prices import load_cluster, price_nodes
from raysweep.study import Study

GB = 10**9
POINT = ProbedPoint(
    params={"task.learning_rate": 1e-3},
    train_s=8.0,
    val_s=2.0,
    overhead_s=5.0,
    memory_bytes=2 * GB,
    gpu_memory_bytes=0,
    gpu_total_bytes=0,
    best_bytes=10,
    last_bytes=100,
)
LAPTOP = Node(num_cpus=2, memory_bytes=8 * GB)
HEAD, GPU = Node(num_cpus=8), Node(num_cpus=4, num_gpus=1)


def make_probe(*points: ProbedPoint) -> Probe:
    return Probe(points=points or (POINT,), failures=(), num_train=100, side_by_side=2, duration_s=20.0)


def plan(study: Study, **changes: Any) -> Forecast:
    values = {
        "request": Request(),
        "concurrency": 2,
        "nodes": [LAPTOP],
        "probe": make_probe(),
        "cache_bytes": 7 * GB,
        "free_bytes": GB,
        "prices": None,
    }
    return build_forecast(study, **{**values, **changes})


@pytest.fixture
def fixed_study(make_study: Callable[..., Study]) -> Study:
    """9 trials of 10 epochs that nothing stops."""
    return make_study(space={}, conditions=(), training=TrainingConfig(epochs=10), budget=Budget(trials=9))


# wall time


@pytest.mark.parametrize(
    ("durations", "concurrency", "deadline", "wall"),
    [
        ([10], 1, None, 10),
        ([10, 10, 10], 1, None, 30),
        ([10, 10, 10], 2, None, 20),
        ([10, 1, 1, 1], 2, None, 10),
        ([10] * 4, 8, None, 10),
        ([10] * 4, 1, 15, 20),
        ([10] * 4, 2, 5, 10),
        ([], 2, None, 0),
    ],
)
def test_trials_start_in_order_where_one_has_ended(
    durations: list[float], concurrency: int, deadline: float | None, wall: float
) -> None:
    assert schedule(durations, concurrency, deadline) == wall


@pytest.mark.parametrize(
    ("concurrency", "reuses", "seconds"),
    [
        (1, True, 5 + 9 * 100 + 8 * 1),  # one process starts, the others take it over
        (1, False, 9 * 105),
        (3, True, 5 + 3 * 100 + 2 * 1),
        (9, False, 105),
    ],
)
def test_wall_time_of_equal_trials_is_arithmetic(
    fixed_study: Study, concurrency: int, reuses: bool, seconds: float
) -> None:
    later = dataclasses.replace(POINT, overhead_s=1.0)
    wall = estimate_wall_time(fixed_study, make_probe(*[POINT] * concurrency, later), concurrency, reuses=reuses)
    assert (wall.low_s, wall.expected_s, wall.high_s) == pytest.approx((seconds,) * 3)


def test_trials_other_than_the_baseline_take_what_other_points_took(fixed_study: Study) -> None:
    slow = dataclasses.replace(POINT, params={}, train_s=28.0)
    wall = estimate_wall_time(fixed_study, make_probe(POINT, slow), 1, reuses=True)
    assert wall.expected_s == pytest.approx(9 * 5 + 100 + 8 * 300)


def test_the_time_budget_ends_the_search(make_study: Callable[..., Study]) -> None:
    study = make_study(
        space={}, conditions=(), training=TrainingConfig(epochs=10), budget=Budget(trials=1000, time_s=500)
    )
    assert estimate_wall_time(study, make_probe(), 1, reuses=True).high_s == pytest.approx(5 * 105)


def test_epochs_are_those_of_the_named_points_and_then_of_the_space(make_study: Callable[..., Study]) -> None:
    study = make_study(points=({"training.epochs": 9},))
    epochs = draw_epochs(study, np.random.default_rng(0), 500)
    assert epochs[:2] == [3, 9]
    assert set(epochs) == set(range(3, 11))
    assert np.mean(epochs) == pytest.approx(6.5, abs=0.4)
    assert draw_epochs(study, np.random.default_rng(0), 1) == [3]


def test_the_range_is_what_early_stopping_may_save(make_study: Callable[..., Study]) -> None:
    study = make_study(
        space={"training.epochs": IntDistribution(100, 100)},
        conditions=(),
        training=TrainingConfig(epochs=100),
        budget=Budget(trials=11),
    )
    free = make_probe(dataclasses.replace(POINT, overhead_s=0.0))
    wall = estimate_wall_time(study, free, 1, reuses=True)
    assert wall.high_s == pytest.approx(11 * 1000)
    assert wall.expected_s == pytest.approx(1000 + 10 * 1000 * TRAINED_SHARE)
    assert wall.low_s < wall.expected_s
    few = dataclasses.replace(study, budget=Budget(trials=9))
    wall = estimate_wall_time(few, free, 1, reuses=True)
    assert wall.low_s == wall.high_s == pytest.approx(9000)


# what does not fit


def test_what_fits_is_described(study: Study) -> None:
    text = describe_forecast(plan(study))
    assert "2 trials side by side on 1 node" in text
    assert "2 x 2 GB = 4 GB of 8 GB" in text
    assert "decoded images 7 GB" in text
    assert "cost" not in text
    assert json.loads(json.dumps(forecast_to_json(plan(study))))["concurrency"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"probe": make_probe(POINT, dataclasses.replace(POINT, memory_bytes=5 * GB))},
            r"2 processes x 5 GB = 10 GB on a node of 2 CPUs that has 8 GB .* --cpus-per-worker 2 leaves room for 1",
        ),
        ({"probe": make_probe(dataclasses.replace(POINT, memory_bytes=9 * GB))}, r"18 GB .* lower training.batch_size"),
        ({"free_bytes": 400}, r"disk: checkpoints take 670 bytes \(5 x 10 bytes \+ 2 running x \(10 bytes \+ 3 x 100"),
        (
            {
                "request": Request(gpus_per_worker=0.5),
                "nodes": [GPU],
                "probe": make_probe(dataclasses.replace(POINT, gpu_memory_bytes=9 * GB, gpu_total_bytes=16 * GB)),
            },
            r"GPU memory: 2 processes x \(9 GB \+ 629 MB of CUDA's own\) = 19\.3 GB on a GPU of 16 GB",
        ),
    ],
)
def test_what_cannot_fit_is_refused_with_the_arithmetic(study: Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(study, **changes)


def test_only_so_many_processes_are_counted_as_run_at_once(study: Study) -> None:
    large = make_probe(dataclasses.replace(POINT, memory_bytes=5 * GB))
    assert plan(study, probe=large, concurrency=1).concurrency == 1
    unknown = Node(num_cpus=2)
    assert "not known" in describe_forecast(plan(study, probe=large, nodes=[unknown]))


def test_checkpoints_are_the_largest_of_all_points() -> None:
    large = dataclasses.replace(POINT, best_bytes=20, last_bytes=50)
    assert count_checkpoint_bytes(make_probe(POINT, large), 5, 3) == 5 * 20 + 3 * (20 + 3 * 100)


@pytest.mark.parametrize(
    ("concurrency", "request_", "used"),
    [
        (1, Request(cpus_per_worker=4, gpus_per_worker=1), [GPU]),
        (3, Request(cpus_per_worker=4, gpus_per_worker=1), [GPU] * 3),
        (1, Request(num_workers=2, cpus_per_worker=4, gpus_per_worker=1), [GPU] * 2),
        (8, Request(), [HEAD]),
        (9, Request(), [HEAD, GPU]),
    ],
)
def test_nodes_in_use(concurrency: int, request_: Request, used: list[Node]) -> None:
    assert nodes_in_use([HEAD, *[GPU] * 4], request_, concurrency) == used


# prices

PRICES = {"head": 0.25, "gpu": 1.0}


def make_cluster(resources: bool = True, prices: Any = PRICES) -> dict[str, Any]:
    types = {"head": {"CPU": 8}, "gpu": {"CPU": 4, "GPU": 1}}
    return {
        "head_node_type": "head",
        "available_node_types": {name: {"resources": has if resources else {}} for name, has in types.items()},
        "metadata": {"prices_per_hour": prices},
    }


@pytest.mark.parametrize(
    ("config", "nodes", "counts"),
    [
        (make_cluster(), [GPU, GPU], {"head": 1, "gpu": 2}),
        (make_cluster(), [HEAD], {"head": 1}),
        (make_cluster(), [HEAD, GPU], {"head": 1, "gpu": 1}),
        (make_cluster(resources=False), [LAPTOP], {"head": 1, "gpu": 1}),
        ({"metadata": {"prices_per_hour": {"mine": 2}}}, [HEAD, GPU], {"mine": 2}),
    ],
)
def test_the_head_and_the_nodes_of_trials_are_paid_for(
    config: dict[str, Any], nodes: list[Node], counts: dict[str, int]
) -> None:
    priced = price_nodes(config, nodes)
    assert priced is not None
    assert {kind: count for kind, (count, _) in priced.items()} == counts


def test_cost_is_hours_times_prices(fixed_study: Study) -> None:
    priced = price_nodes(make_cluster(), [GPU, GPU])
    made = plan(fixed_study, nodes=[GPU, GPU], request=Request(cpus_per_worker=4), prices=priced)
    assert forecast_to_json(made)["cost"]["expected"] == pytest.approx(2.25 * made.wall.expected_s / 3600)
    assert "2 gpu x 1 + 1 head x 0.25 = 2.25 an hour" in describe_forecast(made)


@pytest.mark.parametrize("config", [{}, {"metadata": {}}, {"metadata": None}])
def test_without_prices_there_is_no_cost(config: dict[str, Any]) -> None:
    assert price_nodes(config, [LAPTOP]) is None


@pytest.mark.parametrize(
    ("prices", "nodes", "message"),
    [
        ({"gpus": 1.0}, [GPU], "no node type 'gpus'; there are: head, gpu"),
        ({"head": 0.25, "gpu": "cheap"}, [GPU], "prices_per_hour.gpu must be a number above 0, got 'cheap'"),
        ({"head": 0, "gpu": 1}, [GPU], "must be a number above 0, got 0"),
        ({"head": 0.25}, [GPU], r"none for \['gpu'\]"),
        ([1.0], [GPU], "must be prices by node type"),
    ],
)
def test_wrong_prices_are_refused(prices: Any, nodes: list[Node], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        price_nodes(make_cluster(prices=prices), nodes)


def test_a_node_of_no_type_has_no_clear_price() -> None:
    config = make_cluster()
    config["available_node_types"]["large"] = {"resources": {"CPU": 64}}
    with pytest.raises(UsageError, match="give the types their `resources`"):
        price_nodes(config, [LAPTOP])


def test_a_cluster_is_yaml_or_json(tmp_path: Path) -> None:
    path = tmp_path / "cluster"
    for write in (json.dumps, yaml.safe_dump):
        path.write_text(write(make_cluster()))
        assert load_cluster(path) == make_cluster()
    for text in ("[1]", "{", ""):
        path.write_text(text)
        with pytest.raises(UsageError, match="--cluster"):
            load_cluster(path)
