"""Forecasts a search's time, memory, disk and cost: pure functions of a probe, the study and the nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysweep import config_fields
from raysweep.atomic_files import Json
from raysweep.cluster.capacity import CUDA_CONTEXT_BYTES, Node, Request, count_per_gpu, count_workers
from raysweep.config import KEEP_LEADING
from raysweep.errors import UsageError
from raysweep.planning.estimate import (
    LOW_TRAINED_SHARE,
    PROBE_EPOCHS,
    TRAINED_SHARE,
    Probe,
    WallTime,
    count_checkpoint_bytes,
    estimate_wall_time,
)
from raysweep.search.retention import count_kept
from raysweep.search.strategy.pruners.default import MIN_TRIALS, stops_early
from raysweep.stages import format_duration
from raysweep.storage_faults import format_bytes
from raysweep.study import Study


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Time, memory, disk and cost of a search."""

    study: str
    trials: int
    request: Request
    concurrency: int
    nodes: tuple[Node, ...]
    """The nodes that trials run on."""
    probe: Probe
    stops_early: bool
    wall: WallTime
    memory_bytes: int
    """Memory of one trial's process, of each worker in a DDP trial."""
    num_kept: int
    """Number of models kept at most: trials' and the run's best."""
    checkpoint_bytes: int
    """Size of all checkpoints of the run at most, those being written included."""
    cache_bytes: int
    """Size of the decoded images, which are on the disk already."""
    free_bytes: int
    """Free space of the storage."""
    prices: Mapping[str, tuple[int, float]] | None
    """Number of nodes paid for by node type, and the price of one for an hour; none: no prices."""

    @property
    def price_per_hour(self) -> float | None:
        """Returns the price of all nodes for an hour; none: not known."""
        return None if self.prices is None else sum(count * price for count, price in self.prices.values())


def build_forecast(
    study: Study,
    *,
    request: Request,
    concurrency: int,
    nodes: Sequence[Node],
    probe: Probe,
    cache_bytes: int,
    free_bytes: int,
    prices: Mapping[str, tuple[int, float]] | None,
    num_leading: int = KEEP_LEADING,
) -> Forecast:
    """Builds the forecast of a search on `nodes`, those that trials run on.

    num_leading: how many leading trials keep their models.

    Raises:
        UsageError: memory, GPU memory or the disk cannot hold it; the message shows the arithmetic.
    """
    num_kept = count_kept(study, num_leading) + 1
    forecast = Forecast(
        study=study.name,
        trials=study.budget.trials,
        request=request,
        concurrency=concurrency,
        nodes=tuple(nodes),
        probe=probe,
        stops_early=stops_early(study),
        wall=estimate_wall_time(study, probe, concurrency, reuses=request.num_workers == 1),
        memory_bytes=max(point.memory_bytes for point in probe.points),
        num_kept=num_kept,
        checkpoint_bytes=count_checkpoint_bytes(probe, num_kept, concurrency),
        cache_bytes=cache_bytes,
        free_bytes=free_bytes,
        prices=prices,
    )
    problems = [*_check_memory(forecast), *_check_gpu_memory(forecast), *_check_disk(forecast)]
    if problems:
        raise UsageError("the search does not fit:\n  " + "\n  ".join(problems))
    return forecast


def nodes_in_use(nodes: Sequence[Node], request: Request, concurrency: int) -> list[Node]:
    """Chooses the first nodes that hold so many trials."""
    used: list[Node] = []
    missing = concurrency * request.num_workers
    for node in nodes:
        if missing > 0 and count_workers(node, request):
            used.append(node)
            missing -= count_workers(node, request)
    return used


def _check_memory(forecast: Forecast) -> list[str]:
    problems = []
    for node in set(forecast.nodes):
        memory_bytes = min(other.memory_bytes for other in forecast.nodes if other == node)
        num = min(count_workers(node, forecast.request), forecast.concurrency * forecast.request.num_workers)
        if memory_bytes and num * forecast.memory_bytes > memory_bytes:
            fit = int(memory_bytes // forecast.memory_bytes)
            way_on = (
                f"--cpus-per-worker {node.num_cpus / fit:g} leaves room for {fit}"
                if fit
                else "lower training.batch_size, training.eval_batch_size or data.image_size with --set"
            )
            problems.append(
                f"memory: {num} processes x {format_bytes(forecast.memory_bytes)} = "
                f"{format_bytes(num * forecast.memory_bytes)} on a node of {node.num_cpus:g} CPUs that has "
                f"{format_bytes(memory_bytes)} for them; {way_on}"
            )
    return problems


def _check_gpu_memory(forecast: Forecast) -> list[str]:
    num = count_per_gpu(forecast.request)
    point = max(forecast.probe.points, key=lambda point: point.gpu_memory_bytes)
    process_bytes = point.gpu_memory_bytes + CUDA_CONTEXT_BYTES
    if not point.gpu_total_bytes or num * process_bytes <= point.gpu_total_bytes:
        return []
    return [
        f"GPU memory: {num} processes x ({format_bytes(point.gpu_memory_bytes)} + {format_bytes(CUDA_CONTEXT_BYTES)} "
        f"of CUDA's own) = {format_bytes(num * process_bytes)} on a GPU of {format_bytes(point.gpu_total_bytes)}; "
        "raise --gpus-per-worker or lower --trials-per-gpu"
    ]


def _check_disk(forecast: Forecast) -> list[str]:
    if forecast.checkpoint_bytes <= forecast.free_bytes:
        return []
    return [
        f"disk: checkpoints take {format_bytes(forecast.checkpoint_bytes)} ({describe_checkpoints(forecast)}), "
        f"{format_bytes(forecast.free_bytes)} are free; give another --storage"
    ]


def describe_checkpoints(forecast: Forecast) -> str:
    """Describes the arithmetic of `count_checkpoint_bytes`."""
    best = max(point.best_bytes for point in forecast.probe.points)
    last = max(point.last_bytes for point in forecast.probe.points)
    return (
        f"{forecast.num_kept} x {format_bytes(best)} + {forecast.concurrency} running x "
        f"({format_bytes(best)} + 3 x {format_bytes(last)})"
    )


def forecast_to_json(forecast: Forecast) -> Json:
    """Converts the forecast to plain JSON values, with its cost."""
    hours = {name: seconds / 3600 for name, seconds in config_fields.to_json(forecast.wall).items()}
    price = forecast.price_per_hour
    cost = None if price is None else {name.removesuffix("_s"): price * value for name, value in hours.items()}
    return {**config_fields.to_json(forecast), "price_per_hour": price, "cost": cost}


def describe_forecast(forecast: Forecast) -> str:
    """Describes the forecast for a person: a line for each resource, then the assumptions."""
    probe, request = forecast.probe, forecast.request
    epochs_s = [point.epoch_s for point in probe.points]
    lines = {
        "search": f"{forecast.trials} trials of {forecast.study}, each {_count(request.num_workers, 'worker')} of "
        f"{request.cpus_per_worker:g} CPU and {request.gpus_per_worker:g} GPU",
        "probe": f"{_count(len(probe.points), 'point')} of the space, {PROBE_EPOCHS} epochs of "
        f"{probe.num_train:,} images, {probe.side_by_side} side by side, {probe.duration_s:.0f} s",
        "epoch": f"the baseline's {format_duration(epochs_s[0])}, the points' {format_duration(min(epochs_s))} to "
        f"{format_duration(max(epochs_s))}",
        "concurrency": f"{_count(forecast.concurrency, 'trial')} side by side on {_count(len(forecast.nodes), 'node')}",
        "memory": _describe_memory(forecast),
        "disk": f"checkpoints {format_bytes(forecast.checkpoint_bytes)} at most ({describe_checkpoints(forecast)}) "
        f"of {format_bytes(forecast.free_bytes)} free; decoded images "
        f"{format_bytes(forecast.cache_bytes)}, there already",
        "wall time": f"{format_duration(forecast.wall.expected_s)} expected, "
        f"{format_duration(forecast.wall.low_s)} to {format_duration(forecast.wall.high_s)}",
    }
    if forecast.prices is not None:
        lines["cost"] = _describe_cost(forecast)
    return "\n".join([*(f"{name:<13}{text}" for name, text in lines.items()), "", *_describe_assumptions(forecast)])


def _describe_memory(forecast: Forecast) -> str:
    node = max(forecast.nodes, key=lambda node: count_workers(node, forecast.request))
    num = min(count_workers(node, forecast.request), forecast.concurrency * forecast.request.num_workers)
    has = f"of {format_bytes(node.memory_bytes)}" if node.memory_bytes else "; how much there is is not known"
    on_gpu = max(point.gpu_memory_bytes for point in forecast.probe.points)
    return (
        f"{num} x {format_bytes(forecast.memory_bytes)} = {format_bytes(num * forecast.memory_bytes)} {has} on a node"
        + f"; {format_bytes(on_gpu + CUDA_CONTEXT_BYTES)} of the GPU each, CUDA's own included" * bool(on_gpu)
    )


def _describe_cost(forecast: Forecast) -> str:
    assert forecast.prices is not None
    cost = forecast_to_json(forecast)["cost"]
    nodes = " + ".join(f"{count} {kind} x {price:g}" for kind, (count, price) in forecast.prices.items())
    return (
        f"{cost['expected']:.2f} expected, {cost['low']:.2f} to {cost['high']:.2f} "
        f"({nodes} = {forecast.price_per_hour:g} an hour, your prices)"
    )


def _describe_assumptions(forecast: Forecast) -> list[str]:
    """Describes the assumptions behind the figures."""
    baseline = forecast.probe.points[0]
    others = sum(point.params != baseline.params for point in forecast.probe.points)
    texts = [
        "lengths of trials are drawn from the space, those of the named points are their own",
        f"trials take what the {_count(others, 'other point')} of the probe took"
        if others
        else "all trials take what the baseline took, of memory too: no other point was probed",
        f"stopped early: {1 - TRAINED_SHARE:.0%} of the epochs as expected, {1 - LOW_TRAINED_SHARE:.0%} at best (as on "
        "LCBench's curves), none at worst"
        if forecast.stops_early
        else f"no trial is stopped early: there are fewer than {MIN_TRIALS}, or all alike, or two objectives",
        "measured beside whatever else ran on the nodes; a probe on busy nodes tells of busy nodes",
        "not counted: early stopping within a trial, nodes that have yet to start, the final evaluation",
        *(["cost: as if the nodes that are paid for were as fast as those of the probe"] if forecast.prices else []),
        *(f"could not be trained: {failure}" for failure in forecast.probe.failures),
    ]
    return [f"- {text}" for text in texts]


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"
