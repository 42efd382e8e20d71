"""A study from start to end: data, trials on Ray Tune, the final evaluation, results.json."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import ray
import torch

from raysweep import atomic_files as files
from raysweep.cluster.capacity import Request, count_concurrent_trials, default_request
from raysweep.cluster.connection import connect, list_nodes, list_potential_nodes
from raysweep.cluster.lost_nodes import NodeWatch
from raysweep.config import check_config
from raysweep.data import pipeline
from raysweep.data.images import PreparedData
from raysweep.data.sources import load_source
from raysweep.errors import StudyFailedError
from raysweep.evaluate.final import evaluate_final
from raysweep.evaluate.stored_model import save_config
from raysweep.run_folder import FINALISTS, trial_folder
from raysweep.search.best_model import build_record, keep_best, keep_winner, write_study
from raysweep.search.finalists.retraining import open_confirmation
from raysweep.search.finalists.statistics import Finalist, choose_finalists, summarise_finalists
from raysweep.search.live_table import LiveTable
from raysweep.search.observer import Observer
from raysweep.search.options import RunOptions
from raysweep.search.pareto import announce_two_objectives, draw_front
from raysweep.search.preflight import check_models, check_study
from raysweep.search.ray_tune import SearchDriver, quiet_tune, run_trials
from raysweep.search.retention import Retention, keep_for_search, keep_of_points
from raysweep.search.session.identity import Identity, check_digest
from raysweep.search.session.opening import create_run, enter_run, load_finished, open_strategy
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.tracking import Tracker, default_mode
from raysweep.train.trial import TrialSpec
from raysweep.trial_result import TrialResult


def run_study(study: Study, options: RunOptions) -> dict[str, Any]:
    """Runs a study and returns what results.json holds, with `sync_command` for offline W&B runs.

    Raises:
        UsageError: the run's folder exists, or is to be resumed and cannot be; a model or its weights cannot be had,
            or no trial fits the cluster.
        DataError: the images cannot be had, or too many of them are bad.
        StudyFailedError: no trial completed.
    """
    began = time.monotonic()
    run = options.run
    check_study(study, options.num_workers)
    with contextlib.ExitStack() as stack:
        stored, identity = enter_run(study, options, stack)
        if stored is not None and (record := load_finished(study, options, stored, identity)) is not None:
            return {**record, "sync_command": None}
        request, concurrency = size_trials(study, options)
        data, test_folder = prepare_data(study, options)
        if stored is not None:
            check_digest(stored, study.data.source, data.info.digest)
        elif not run.exists():
            create_run(run, stack)
        write_study(run, study, data, identity)
        tracker = Tracker(
            options.wandb or default_mode(),
            run_folder=run,
            run_id=identity.run_id,
            group=options.name,
            tags=[study.name, *(["synthetic"] if data.info.synthetic else [])],
        )
        strategy = open_strategy(study, run, identity)
        retention = Retention(run, strategy.results(), keep_for_search(study, options.keep_checkpoints))
        _search(study, run, strategy, data, request, concurrency, [tracker, retention])
        results = _take_results(study, run, strategy)
        asked = identity.overrides
        finalists = _confirm(study, run, identity, results, data, request, concurrency, tracker)
        best = keep_winner(run, study.objective, finalists) or keep_best(run, study, results)
        test = _evaluate(options, data, test_folder, request)
        record = build_record(
            study,
            data,
            results,
            best,
            test,
            nodes=list_nodes(),
            max_epochs=asked.max_epochs,
            duration_s=time.monotonic() - began,
            finalists=summarise_finalists(finalists, study.objective, asked.finalists, asked.seeds),
        )
        files.write_json(run / "results.json", record)
        draw_front(run, record)
        _track(tracker, run, record, results)
    return {**record, "sync_command": tracker.sync_command}


def size_trials(study: Study, options: RunOptions) -> tuple[Request, int]:
    """Connects to Ray and says what a trial takes and how many run side by side."""
    connect(options.address)
    request: Request = check_config(
        lambda: default_request(
            list_potential_nodes(),
            num_workers=options.num_workers,
            cpus_per_worker=options.cpus_per_worker,
            gpus_per_worker=options.gpus_per_worker,
        ),
        "a trial's size",
    )
    return request, min(count_concurrent_trials(list_potential_nodes(), request), study.budget.trials)


def prepare_data(study: Study, options: RunOptions) -> tuple[PreparedData, Path]:
    """The decoded images, and the folder of the test split."""
    source = load_source(
        study.data.source,
        split_seed=study.data.split_seed,
        storage=options.storage,
        data_root=options.data_root,
    )
    data, test_folder = pipeline.prepare(source, study.data, options.storage / ".cache")
    study.task.prepare(data)
    check_models(study, data)
    return data, test_folder


def _search(
    study: Study,
    run: Path,
    strategy: Strategy,
    data: PreparedData,
    request: Request,
    concurrency: int,
    observers: Sequence[Observer],
) -> None:
    """Runs the trials that are to go on or to start; their folders are in `run`."""
    if not strategy.has_work():
        return
    announce_two_objectives(study)
    deadline = time.monotonic() + study.budget.time_s if study.budget.time_s else None
    table = LiveTable(study.objectives, study.budget.trials, deadline, strategy.results())
    shutil.rmtree(run / ".ray", ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="raysweep-") as local_scratch:
        scratch = Path(local_scratch) if len(list_potential_nodes()) == 1 else run / ".ray"

        def make_spec(number: int, params: dict[str, Any], num_reported: int) -> TrialSpec:
            config = strategy.trial_config(number, params)
            spec = TrialSpec(
                number=number,
                config=config,
                data=data,
                objective=study.objective,
                second_objective=study.second_objective,
                folder=trial_folder(run, number),
                request=request,
                scratch=scratch / "train",
                num_reported=num_reported,
            )
            save_config(spec.folder / "config.json", number, config, data.info, params)
            spec.stop_file.unlink(missing_ok=True)
            return spec

        driver = SearchDriver(strategy, make_spec, [*observers, table], deadline, NodeWatch())
        with table, quiet_tune():
            run_trials(driver, request=request, concurrency=concurrency, scratch=str(scratch))
    shutil.rmtree(run / ".ray", ignore_errors=True)


def _confirm(
    study: Study,
    run: Path,
    identity: Identity,
    results: list[TrialResult],
    data: PreparedData,
    request: Request,
    concurrency: int,
    tracker: Tracker,
) -> list[Finalist]:
    """Trains the best configurations of the search and the baseline again, where that is asked for."""
    asked = identity.overrides
    if asked.finalists is None or asked.seeds is None:
        return []
    chosen = choose_finalists(results, study.objective, asked.finalists)
    again = open_confirmation(study, run, identity, chosen, asked.seeds)
    folder = run / FINALISTS
    tracker.prefix = "finalist-"
    retention = Retention(folder, again.results(), keep_of_points(study.objectives))
    _search(again.study, folder, again, data, request, concurrency, [tracker, retention])
    return again.finalists()


def _take_results(study: Study, run: Path, strategy: Strategy) -> list[TrialResult]:
    """How all trials of the run ended.

    Raises:
        StudyFailedError: none completed; the message is a table of causes.
    """
    results = strategy.results()
    if not any(result.state == "COMPLETE" for result in results):
        causes = "\n".join(f"  trial {result.number}: {result.error or result.state}" for result in results)
        raise StudyFailedError(
            f"no trial of {study.name} completed; tracebacks are in {run}/trials/*/error.txt\n{causes}"
        )
    return results


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
