"""Runs a study from start to end: data, trials on Ray Tune, the final evaluation, results.json."""

import contextlib
import dataclasses
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
import torch

from raysweep import __version__
from raysweep.announcement import announce
from raysweep.cluster.connection import list_nodes
from raysweep.cluster.lost_ray import run_on_ray
from raysweep.config import TrialConfig
from raysweep.cores import count_cores
from raysweep.data.records import Source
from raysweep.errors import StorageError, StudyFailedError
from raysweep.evaluate.final import evaluate_final
from raysweep.evaluate.test_figures import TestFigures
from raysweep.planning.probe import share_gpus
from raysweep.run_folder import RunFolder
from raysweep.search.best_model import keep_best, keep_winner
from raysweep.search.finalists.retraining import open_retraining
from raysweep.search.finalists.statistics import (
    Finalist,
    choose_finalists,
    explain_baseline_failure,
    summarise_finalists,
)
from raysweep.search.launch import SearchContext, launch_trials
from raysweep.search.live_table import LiveTable
from raysweep.search.observer import Observer, ObserverFactory, build_observers, load_observers
from raysweep.search.options import RunOptions
from raysweep.search.pareto import announce_two_objectives, draw_front
from raysweep.search.preflight import check_start, fetch_inputs, find_images
from raysweep.search.preparation import prepare_data, size_trials
from raysweep.search.ranking import find_front
from raysweep.search.results import Machine, Results, save_results
from raysweep.search.retention import Retention, keep_for_search, keep_of_points
from raysweep.search.session.identity import Identity, StudyRecord, check_digest, save_record
from raysweep.search.session.opening import create_run, enter_run, load_finished, open_strategy
from raysweep.search.strategy.strategy import Strategy
from raysweep.storage_faults import guard_work
from raysweep.study import Study
from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.opening import open_trackers
from raysweep.tracking.tracker import Tracker
from raysweep.trial_result import BASELINE, TrialResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Holds what a study that was run to its end leaves to its caller."""

    results: Results
    sync_command: str | None = None
    """What uploads offline W&B runs; none: there are none."""


def run_study(study: Study, options: RunOptions, source: Source | None = None) -> Outcome:
    """Runs a study, or what is left to do of it.

    source: of its images, where `check_start` has found it already.

    Raises:
        StorageError: the storage is full, read-only or out of reach; all that was done is kept.
        RaysweepError: as `_run` says.
    """
    try:
        with guard_work(options.storage):
            return _run(study, options, source)
    except StorageError as fault:
        raise StorageError(f"{fault}, then go on with --resume: what is done is kept") from fault


def _run(study: Study, options: RunOptions, source: Source | None) -> Outcome:
    """Runs a study, or what is left to do of it.

    Raises:
        UsageError: the run's folder exists, or is to be resumed and cannot be; a model, its weights or an observer
            cannot be had, or no trial fits the cluster.
        DataError: the images cannot be had, or too many of them are bad.
        StudyFailedError: no trial completed.
    """
    began = time.monotonic()
    folder = options.run_folder
    if source is None:
        source = check_start(study, options)
    study = fetch_inputs(study, folder.cache)
    factories = load_observers(options.observers)
    with contextlib.ExitStack() as stack:
        record, identity = enter_run(study, options, stack)
        if record is not None and (found := load_finished(study, options, record, identity)) is not None:
            return Outcome(results=found)
        context, test_folder = _prepare(study, options, source or find_images(study, options))
        if record is not None:
            check_digest(record, study.data.source, context.data.info.digest)
        elif not folder.path.exists():
            create_run(folder, stack)
        save_record(folder, _describe_study(context, identity))
        observers = build_observers(factories, folder, study)
        strategy = open_strategy(study, folder, identity)
        trackers = open_trackers(_describe_run(context, options, identity), options, strategy.results())
        for tracker in trackers:
            stack.callback(tracker.close)
        retention = Retention(folder, strategy.results(), keep_for_search(study, options.keep_checkpoints))
        _search(context, strategy, [*trackers, retention, *observers])
        trials = _take_results(study, folder, strategy)
        finalists = _retrain_finalists(context, identity, trials, trackers, factories)
        best = keep_winner(folder, study.objective, finalists) or keep_best(folder, study, trials)
        failure = explain_baseline_failure(trials, finalists, study.objective)
        asked = identity.overrides
        machine = Machine.describe(list_nodes())  # before the evaluation, which can do without Ray
        results = Results(
            study=study.name,
            objective=study.objective,
            second_objective=study.second_objective,
            pareto_front=tuple(trial.number for trial in find_front(trials, study.objectives)),
            max_epochs=asked.max_epochs,
            trials=tuple(trials),
            best=best,
            baseline=next((trial for trial in trials if trial.number == BASELINE), None),
            finalists=summarise_finalists(finalists, study.objective, asked.finalists, asked.seeds),
            test=_evaluate(context, test_folder, options.data_root, failure),
            data=context.data.info,
            machine=machine,
            duration_s=round(time.monotonic() - began, 3),
        )
        save_results(folder, results)
        draw_front(folder, results)
        for observer in (*trackers, *observers):
            observer.search_ended(results)
    return Outcome(
        results=results, sync_command=next(filter(None, (tracker.sync_command for tracker in trackers)), None)
    )


def _prepare(study: Study, options: RunOptions, source: Source) -> tuple[SearchContext, Path]:
    """Prepares what all trials need, and returns it and the folder of the test split."""
    request, concurrency = size_trials(study, options)
    data, test_folder = prepare_data(study, options, source)
    request, concurrency = share_gpus(study, data, request, concurrency, options)
    context = SearchContext(study=study, data=data, request=request, concurrency=concurrency, folder=options.run_folder)
    return context, test_folder


def _describe_study(context: SearchContext, identity: Identity) -> StudyRecord:
    versions = {"raysweep": __version__, "python": platform.python_version(), "torch": torch.__version__}
    versions |= {name: version(name) for name in ("ray", "optuna")}
    digest = context.data.info.digest
    return StudyRecord(study=context.study.to_json(), identity=identity, data_digest=digest, versions=versions)


def _describe_run(context: SearchContext, options: RunOptions, identity: Identity) -> TrackedRun:
    return TrackedRun(
        folder=options.run_folder,
        run_id=identity.run_id,
        name=options.name,
        study=context.study,
        data=context.data.info,
    )


def _search(context: SearchContext, strategy: Strategy, observers: Sequence[Observer]) -> None:
    """Runs the trials that are to go on or to start, and shows them on the terminal."""
    if not strategy.has_work():
        return
    study, deadline = context.study, context.deadline
    announce_two_objectives(study)
    ended = strategy.results()
    with LiveTable(study.objectives, study.budget.trials, deadline, ended, study.task.metrics) as table:
        launch_trials(context, strategy, [*observers, table], deadline)


def _retrain_finalists(
    context: SearchContext,
    identity: Identity,
    results: Sequence[TrialResult],
    trackers: Sequence[Tracker],
    factories: Mapping[str, ObserverFactory],
) -> list[Finalist]:
    """Trains the best configurations of the search and the baseline again, where that is asked for."""
    asked, study, folder = identity.overrides, context.study, context.folder
    if asked.finalists is None or asked.seeds is None:
        return []
    assert isinstance(folder, RunFolder)
    chosen = choose_finalists(results, study.objective, asked.finalists)
    retraining = open_retraining(study, folder, identity, chosen, asked.seeds)
    for tracker in trackers:
        tracker.begin_finalists(chosen)
    retention = Retention(folder.finalists, retraining.results(), keep_of_points(study.objectives))
    observers = [*trackers, retention, *build_observers(factories, folder.finalists, study)]
    _search(dataclasses.replace(context, study=retraining.study, folder=folder.finalists), retraining, observers)
    return retraining.finalists()


def _take_results(study: Study, folder: RunFolder, strategy: Strategy) -> list[TrialResult]:
    """Returns how all trials of the run ended.

    Raises:
        StudyFailedError: none completed; the message is a table of causes.
    """
    results = strategy.results()
    if not any(result.state == "COMPLETE" for result in results):
        causes = "\n".join(f"  trial {result.number}: {result.error or result.state}" for result in results)
        tracebacks = f"{folder.trials}/*/{folder.trial(BASELINE).error.name}"
        raise StudyFailedError(f"no trial of {study.name} completed; tracebacks are in {tracebacks}\n{causes}")
    return results


def _evaluate(
    context: SearchContext, test_folder: Path, data_root: Path | None, baseline_failure: str | None
) -> TestFigures:
    """Evaluates the run in the end, here, or on a node with a GPU where the driver has none."""
    request = context.request
    assert isinstance(context.folder, RunFolder)
    evaluate = partial(
        evaluate_final,
        context.folder,
        test_folder,
        data=context.data,
        reason="final evaluation",
        data_root=data_root,
        baseline_failure=baseline_failure,
    )
    if request.gpus_per_worker and not torch.cuda.is_available():
        remote: Any = ray.remote(num_cpus=request.cpus_per_worker, num_gpus=request.gpus_per_worker)(
            _evaluate_elsewhere  # Ray gives NumPy and scikit-learn as many threads
        )
        config = context.study.trial_config({}, BASELINE)
        here = partial(evaluate, num_threads=int(request.cpus_per_worker))
        with announce("the evaluation on a node with a GPU"):
            figures: TestFigures = run_on_ray(lambda: ray.get(remote.remote(config, here)))
        return figures
    return evaluate(num_threads=count_cores())


def _evaluate_elsewhere(config: TrialConfig, evaluate: Callable[[], TestFigures]) -> TestFigures:
    """Evaluates on another node, where the arrival of `config` has imported the code of a task of somebody's own."""
    return evaluate()
