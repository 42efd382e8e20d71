"""A study from start to end: data, trials on Ray Tune, the final evaluation, results.json."""

import contextlib
import logging
import os
import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import torch
from optuna.distributions import CategoricalDistribution, IntDistribution
from ray import tune

from raysweep import files
from raysweep.cluster.connection import connect, list_nodes, plan_nodes
from raysweep.config import check_config
from raysweep.data import pipeline
from raysweep.data.images import PreparedData
from raysweep.data.source import load_source
from raysweep.errors import StudyFailedError, UsageError
from raysweep.evaluate.final import evaluate_final, trial_folder
from raysweep.evaluate.stored import save_config
from raysweep.search.capacity import Request, default_request, plan_concurrency
from raysweep.search.progress import LiveTable
from raysweep.search.ray_tune import SearchDriver, run_trials
from raysweep.search.record import build_record, keep_best, write_study
from raysweep.search.retention import Retention
from raysweep.search.strategy import TrialResult, create_strategy
from raysweep.study import Study
from raysweep.tasks.base import build_task
from raysweep.tracking import Mode, Tracker
from raysweep.train.trial import TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Where and how a study runs."""

    storage: Path
    name: str
    address: str | None = None
    """A Ray cluster; none: the one running here, else a local one; `local`: a local one."""
    num_workers: int = 1
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    wandb: Mode = "offline"
    data_root: Path | None = None
    """A folder that may hold mnist/ and fashion-mnist/."""
    max_epochs: int | None = None
    """What the ranges of epochs were clipped to, for the record."""

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.storage / self.name


def run_study(study: Study, options: RunOptions) -> dict[str, Any]:
    """Runs a study and returns what results.json holds, with `sync_command` for offline W&B runs.

    Raises:
        UsageError: the run's folder exists, a model or its weights cannot be had, or no trial fits the cluster.
        DataError: the images cannot be had, or too many of them are bad.
        StudyFailedError: no trial completed.
    """
    began = time.monotonic()
    run = options.run
    if run.exists():
        raise UsageError(f"{run} exists; give another --name or --storage, or remove that folder")
    _check_study(study, options.num_workers)
    source = load_source(
        study.data.source,
        split_seed=study.data.split_seed,
        storage=options.storage,
        data_root=options.data_root,
    )
    connect(options.address)
    request: Request = check_config(
        lambda: default_request(
            plan_nodes(),
            num_workers=options.num_workers,
            cpus_per_worker=options.cpus_per_worker,
            gpus_per_worker=options.gpus_per_worker,
        ),
        "a trial's size",
    )
    concurrency = min(plan_concurrency(plan_nodes(), request), study.budget.trials)
    data, test_folder = pipeline.prepare(source, study.data, options.storage / ".cache")
    study.task.prepare(data)
    _check_models(study, data)
    run.mkdir(parents=True)
    run_id = uuid.uuid4().hex[:12]
    write_study(run, study, data, run_id=run_id, max_epochs=options.max_epochs)
    tracker = Tracker(
        options.wandb,
        run_folder=run,
        run_id=run_id,
        group=options.name,
        tags=[study.name, *(["synthetic"] if data.info.synthetic else [])],
    )
    results = _search(study, options, data, request, concurrency, tracker)
    best = keep_best(run, study, results)
    test = _evaluate(options, data, test_folder, request)
    record = build_record(
        study,
        data,
        results,
        best,
        test,
        nodes=list_nodes(),
        max_epochs=options.max_epochs,
        duration_s=time.monotonic() - began,
    )
    files.write_json(run / "results.json", record)
    _track(tracker, run, record, results)
    return {**record, "sync_command": tracker.sync_command}


def _check_study(study: Study, num_workers: int) -> None:
    """Fails on what would fail trials: models that cannot be had, batches too small for the workers.

    Raises:
        UsageError: one of these.
    """
    space = dict(study.all_distributions())
    models = space.get("task.model")
    study.task.check_available()
    for model in models.choices if isinstance(models, CategoricalDistribution) else ():
        study.trial_config({"task.model": model}, 0).task.check_available()
    sizes = space.get("training.batch_size")
    smallest = study.training.batch_size
    if isinstance(sizes, CategoricalDistribution):
        smallest = min(smallest, *(int(str(size)) for size in sizes.choices))
    elif isinstance(sizes, IntDistribution):
        smallest = min(smallest, sizes.low)
    if smallest < 2 * num_workers:
        raise UsageError(
            f"a batch is divided over the workers and needs at least 2 images for each: the smallest batch size of "
            f"{study.name} is {smallest}, for {num_workers} workers it must be {2 * num_workers} or more; "
            f"set --set training.batch_size={max(2 * num_workers, 32)}, or lower --workers"
        )


def _check_models(study: Study, data: PreparedData) -> None:
    """Builds the networks of the points that are tried first: what does not fit the images fails here, not in trials.

    Raises:
        UsageError: a network cannot be built for these images.
    """
    for number, point in enumerate(study.starting_points):
        config = study.trial_config(point, number)
        check_config(lambda c=config: build_task(c, data.info).load_modules(), f"{study.name} on {data.info.source}")


def _search(
    study: Study,
    options: RunOptions,
    data: PreparedData,
    request: Request,
    concurrency: int,
    tracker: Tracker,
) -> list[TrialResult]:
    """Runs all trials.

    Raises:
        StudyFailedError: none completed; the message is a table of causes.
    """
    run = options.run
    deadline = time.monotonic() + study.budget.time_s if study.budget.time_s else None
    strategy = create_strategy(study, run / "optuna.journal")
    table = LiveTable(study.objective, study.budget.trials, deadline)
    with tempfile.TemporaryDirectory(prefix="raysweep-") as local_scratch:
        scratch = Path(local_scratch) if len(plan_nodes()) == 1 else run / ".ray"

        def make_spec(number: int, params: dict[str, Any]) -> TrialSpec:
            config = study.trial_config(params, number)
            save_config(trial_folder(run, number) / "config.json", number, config, data.info, params)
            return TrialSpec(
                number=number,
                config=config,
                data=data,
                objective=study.objective,
                folder=trial_folder(run, number),
                request=request,
                scratch=scratch / "train",
            )

        driver = SearchDriver(strategy, make_spec, [tracker, table, Retention(run, study.objective)], deadline)
        with table, _quiet_tune():
            run_trials(
                driver,
                resources=tune_resources(request),
                concurrency=concurrency,
                reuse=request.num_workers == 1,
                scratch=str(scratch),
            )
        shutil.rmtree(run / ".ray", ignore_errors=True)
    results = sorted(driver.results, key=lambda result: result.number)
    if not any(result.state == "COMPLETE" for result in results):
        causes = "\n".join(f"  trial {result.number}: {result.error or result.state}" for result in results)
        raise StudyFailedError(
            f"no trial of {study.name} completed; tracebacks are in {run}/trials/*/error.txt\n{causes}"
        )
    return results


def tune_resources(request: Request) -> tune.PlacementGroupFactory:
    """What Ray Tune reserves for a trial: one worker's share, or next to nothing for the driver of several."""
    if request.num_workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])
    bundle = {"CPU": request.cpus_per_worker}
    return tune.PlacementGroupFactory(
        [{**bundle, "GPU": request.gpus_per_worker} if request.gpus_per_worker else bundle]
    )


@contextlib.contextmanager
def _quiet_tune() -> Any:
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


def _evaluate(options: RunOptions, data: PreparedData, test_folder: Path, request: Request) -> dict[str, Any]:
    """The final evaluation, here, or on a node with a GPU where the driver has none."""
    given: dict[str, Any] = {
        "data": data,
        "reason": "final evaluation",
        "data_root": options.data_root,
    }
    if request.gpus_per_worker and not torch.cuda.is_available():
        remote: Any = ray.remote(num_gpus=request.gpus_per_worker)(evaluate_final)  # type: ignore[arg-type]
        figures: dict[str, Any] = ray.get(
            remote.remote(options.run, test_folder, num_threads=int(request.cpus_per_worker), **given)
        )
        return figures
    return evaluate_final(options.run, test_folder, num_threads=os.cpu_count() or 1, **given)


def _track(tracker: Tracker, run: Path, record: dict[str, Any], results: list[TrialResult]) -> None:
    test: dict[Literal["accuracy"] | str, Any] = record["test"]
    tracker.finish(
        results,
        {
            "study": record["study"],
            "best": record["best"],
            "data": {key: record["data"][key] for key in ("source", "synthetic", "digest")},
            "test": {key: value for key, value in test.items() if isinstance(value, int | float)},
        },
        figures={path.stem: path for path in sorted((run / "test").glob("*.png"))},
        reports={path.stem: path.read_text() for path in sorted((run / "test").glob("*.txt"))},
        best=run / "best",
    )
