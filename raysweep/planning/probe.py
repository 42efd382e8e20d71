"""Probes a study on a cluster: trains some of its points for two epochs on a part of the images.

The points are trained by what trains trials in a search, side by side as they would be there.
"""

import dataclasses
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

from raysweep import config_fields, file_guard
from raysweep.cluster.capacity import (
    Request,
    choose_per_gpu,
    count_concurrent_trials,
    count_workers,
    share_gpu,
)
from raysweep.cluster.connection import BOOTSTRAP_CONFIG, list_nodes, list_potential_nodes
from raysweep.config import Budget
from raysweep.data.images import PreparedData
from raysweep.data.records import Source
from raysweep.errors import UsageError
from raysweep.planning.estimate import PROBE_EPOCHS, Probe, ProbedPoint
from raysweep.planning.forecast import Forecast, build_forecast, nodes_in_use
from raysweep.planning.prices import load_cluster, price_nodes
from raysweep.run_folder import SearchFolder
from raysweep.search.launch import SearchContext, launch_trials
from raysweep.search.options import RunOptions
from raysweep.search.preflight import batch_sizes, check_inputs, fetch_inputs
from raysweep.search.preparation import prepare_data, size_trials
from raysweep.search.session.storage import open_storage
from raysweep.search.strategy.strategy import create_strategy
from raysweep.stages import stage
from raysweep.storage_faults import format_bytes, guard_work, say
from raysweep.study import Study
from raysweep.train.history import SPEED, load_history
from raysweep.train.task import build_task
from raysweep.train.usage import Usage
from raysweep.trial_config import TrialConfig
from raysweep.trial_result import TrialResult

NUM_POINTS = 6
"""The baseline and others, fewer where training is slow."""
PROBE_S = 15.0
"""Seconds that training all points takes, about, without the start of processes."""
AGAIN = "plan again"
SLOW_STEP_S = 3.0
"""Where a step takes longer only the baseline is probed."""


def run_probe(study: Study, data: PreparedData, request: Request, side_by_side: int, storage: Path) -> Probe:
    """Trains the baseline for two steps, and then, sized by these, several points for two epochs.

    What it writes goes to a folder in `storage` that is removed again.

    Raises:
        UsageError: the baseline cannot be trained.
    """
    began = time.monotonic()
    short = study.with_settings((f"training.epochs={PROBE_EPOCHS}", "training.early_stopping_patience=none"))
    short = dataclasses.replace(short, second_objective=None)
    with (
        stage("probe"),
        guard_work(storage),
        tempfile.TemporaryDirectory(prefix=".plan-", dir=storage, ignore_cleanup_errors=True) as name,
    ):
        batch = short.training.batch_size
        baseline = dataclasses.replace(short, space={}, conditions=(), points=(), budget=Budget(trials=side_by_side))
        folder = SearchFolder(Path(name) / "step")
        part = SearchContext(
            study=baseline,
            data=data.take_subset(folder.path / "data", batch, batch),
            request=request,
            concurrency=side_by_side,
            folder=folder,
            measured=True,
        )
        points, failures = _run_part(part, data)
        speed = data.info.num_train / max(point.train_s for point in points)
        if batch / speed < SLOW_STEP_S:
            num_trials, num_train = size_part(short, data.info.num_train, speed, side_by_side)
            num_val = max(round(num_train * data.info.num_val / data.info.num_train), short.training.eval_batch_size)
            folder = SearchFolder(Path(name) / "points")
            part = dataclasses.replace(
                part,
                study=dataclasses.replace(short, budget=Budget(trials=num_trials)),
                data=data.take_subset(folder.path / "data", num_train, num_val),
                folder=folder,
            )
            points, failures = _run_part(part, data)
    return Probe(
        points=points,
        failures=failures,
        num_train=part.data.info.num_train,
        side_by_side=side_by_side,
        duration_s=time.monotonic() - began,
    )


def size_part(study: Study, num_train: int, speed: float, side_by_side: int) -> tuple[int, int]:
    """Sizes the probe to take PROBE_S: how many points and images, at `speed` images a second each.

    At least a batch of each size and as many points as run side by side, though that takes longer.
    """
    _, batch = batch_sizes(study)
    rounds = int(PROBE_S * speed / (PROBE_EPOCHS * batch))
    num_points = max(side_by_side, min(NUM_POINTS, rounds * side_by_side))
    epoch_s = PROBE_S / PROBE_EPOCHS * side_by_side / num_points
    return num_points, min(num_train, max(batch, round(speed * epoch_s)))


def _run_part(part: SearchContext, whole: PreparedData) -> tuple[tuple[ProbedPoint, ...], tuple[str, ...]]:
    """Trains some points, and returns what was seen of them, the baseline first, and why others failed."""
    storage = open_storage(part.folder, None)
    strategy = create_strategy(part.study, storage, part.study.name, sampler="random", pruner="none")
    launch_trials(part, strategy, [])
    results = strategy.results()
    if results[0].state == "FAIL":
        raise UsageError(f"the probe could not train the baseline, and neither can a search: {results[0].error}")
    points = tuple(_read(part, whole, result) for result in results if result.state != "FAIL")
    return points, tuple(f"{result.params}: {result.error}" for result in results if result.state == "FAIL")


def _read(part: SearchContext, whole: PreparedData, result: TrialResult) -> ProbedPoint:
    """Reads what a trial left, scaled to the whole of the images."""
    folder = part.folder.trial(result.number)
    config = part.study.trial_config(result.params, result.number)
    usage = file_guard.read_json(
        folder.usage, "what a trial of the probe took", AGAIN, partial(config_fields.from_json, Usage)
    )
    history = load_history(folder)
    ends = (0.0, *usage.epoch_ends_s)
    epoch_s = ends[-1] - ends[-2]
    train_s = min(part.data.info.num_train / history[-1][SPEED], epoch_s)
    val_share = _count_val(config, whole) / _count_val(config, part.data)
    return ProbedPoint(
        params=result.params,
        train_s=train_s * whole.info.num_train / part.data.info.num_train,
        val_s=(epoch_s - train_s) * val_share,
        overhead_s=max(0.0, result.duration_s - epoch_s * len(usage.epoch_ends_s)),
        memory_bytes=usage.memory_bytes,
        gpu_memory_bytes=usage.gpu_memory_bytes,
        gpu_total_bytes=usage.gpu_total_bytes,
        best_bytes=folder.weights.stat().st_size,
        last_bytes=folder.checkpoint.stat().st_size,
    )


def _count_val(config: TrialConfig, data: PreparedData) -> int:
    """Counts the validation images of an epoch."""
    most = build_task(config, data.info).num_eval_images
    return min(data.info.num_val, most or data.info.num_val)


def share_gpus(
    study: Study, data: PreparedData, request: Request, concurrency: int, options: RunOptions
) -> tuple[Request, int]:
    """Returns what a trial takes and how many can run side by side, where `--trials-per-gpu auto` has a probe say so.

    It trains some points, each alone on a GPU, and says what it has found.

    Raises:
        UsageError: the probe cannot train the baseline.
    """
    if options.trials_per_gpu != "auto":
        return request, concurrency
    nodes = list_potential_nodes()
    living = sum(count_workers(node, request) for node in list_nodes())
    side_by_side = min(max(living, 1), concurrency, study.budget.trials)
    points = run_probe(study, data, request, side_by_side, options.storage).points
    gpu_bytes = max(point.gpu_memory_bytes for point in points)
    per_gpu = choose_per_gpu(
        nodes,
        gpu_bytes=gpu_bytes,
        gpu_total_bytes=min(point.gpu_total_bytes for point in points),
        memory_bytes=max(point.memory_bytes for point in points),
    )
    say(f"--trials-per-gpu auto: {per_gpu}; a trial takes up to {format_bytes(gpu_bytes)} of a GPU beside CUDA's own")
    request = share_gpu(request, nodes, per_gpu, options.cpus_per_worker)
    return request, count_concurrent_trials(nodes, request)


def forecast_study(study: Study, options: RunOptions, cluster: Path | None, source: Source | None = None) -> Forecast:
    """Forecasts a study's search after a probe of it. Images are decoded, and stay so for the search.

    cluster: the configuration of a cluster that may have prices. source: of the images, where it is found already.

    Raises:
        UsageError: the search cannot be run like this; the message shows the arithmetic.
        DataError: the images cannot be had, or the disk cannot hold them decoded.
    """
    if source is None:
        source = check_inputs(study, options)
    study = fetch_inputs(study, options.run_folder.cache)
    config = load_cluster(cluster) if cluster else {}
    request, concurrency = size_trials(study, options)
    concurrency = min(concurrency, study.budget.trials)
    price_nodes(config, nodes_in_use(list_potential_nodes(), request, concurrency))
    data, test_folder = prepare_data(study, options, source)
    request, concurrency = share_gpus(study, data, request, concurrency, options)
    concurrency = min(concurrency, study.budget.trials)
    nodes = nodes_in_use(list_potential_nodes(), request, concurrency)
    living = sum(count_workers(node, request) for node in list_nodes()) // request.num_workers
    return build_forecast(
        study,
        request=request,
        concurrency=concurrency,
        nodes=nodes,
        probe=run_probe(study, data, request, min(max(living, 1), concurrency), options.storage),
        cache_bytes=sum(path.stat().st_size for place in (data.folder, test_folder) for path in place.rglob("*.npy")),
        free_bytes=shutil.disk_usage(options.storage).free,
        prices=price_nodes(config, nodes),
        num_leading=options.overrides.num_leading,
    )


def find_cluster() -> Path | None:
    """Finds the configuration of this head's cluster, else `cluster.yaml` here, if there is one."""
    return next((path for path in (BOOTSTRAP_CONFIG, Path("cluster.yaml")) if path.is_file()), None)
