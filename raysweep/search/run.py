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
from raysweep.cluster.connection import BOOTSTRAP_CONFIG, list_nodes
from raysweep.cluster.lost_ray import run_on_ray
from raysweep.cores import count_cores
from raysweep.data.images import DataInfo
from raysweep.data.records import Source
from raysweep.errors import StorageError, StudyFailedError
from raysweep.evaluate.final import evaluate_final
from raysweep.evaluate.test_figures import TestFigures
from raysweep.planning.prices import find_price
from raysweep.planning.probe import share_gpus
from raysweep.report.writer import ReportWriter, write_if_stale
from raysweep.run_folder import RunFolder
from raysweep.search.best_model import keep_best, keep_winner
from raysweep.search.ending import Followers, end_run, tell_end
from raysweep.search.finalists.retraining import open_retraining
from raysweep.search.finalists.statistics import (
    Finalist,
    choose_finalists,
    explain_baseline_failure,
    summarise_finalists,
)
from raysweep.search.launch import SearchContext
from raysweep.search.notification import Notifier
from raysweep.search.observer import ObserverFactory, build_observers, load_observers
from raysweep.search.options import RunOptions
from raysweep.search.preflight import check_start, fetch_inputs, find_images
from raysweep.search.preparation import prepare_data, size_trials
from raysweep.search.ranking import find_front
from raysweep.search.results import FinalistsRecord, Machine, Results
from raysweep.search.retention import Retention, keep_all, keep_for_search
from raysweep.search.session.identity import Identity, StudyRecord, check_digest, save_record
from raysweep.search.session.opening import create_run, enter_run, load_finished, open_strategy
from raysweep.search.status import FINALISTS, SEARCH, StatusFile
from raysweep.search.strategy.strategy import Strategy
from raysweep.search.trial_stage import run_trial_stage
from raysweep.stages import quieted
from raysweep.storage_faults import guard_work, say
from raysweep.study import Study
from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.opening import open_trackers
from raysweep.tracking.tracker import Tracker, close_trackers
from raysweep.trial_config import TrialConfig
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
        with guard_work(options.storage), quieted(options.quiet):
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
        report = stack.enter_context(ReportWriter(folder))  # left after the run's lock
        record, identity = enter_run(study, options, stack)
        notifier = stack.enter_context(Notifier(options.notify, folder))  # not before: it may be another driver's
        follow = partial(_follow, study, options, identity, factories, report, notifier, stack)
        if record is not None and (found := load_finished(study, options, record, identity)) is not None:
            if not folder.untold.exists():
                write_if_stale(folder, identity.storage_url)
                return Outcome(results=found)
            say("the session that finished it was ended before all were told: they are told now")
            strategy, followers = follow(found.data)
            tell_end(folder, found, strategy, followers)
            return Outcome(results=found, sync_command=followers.sync_command)
        context, test_folder = _prepare(study, options, source or find_images(study, options))
        if record is not None:
            check_digest(record, study.data.source, context.data.info.digest)
        elif not folder.path.exists():
            create_run(folder, stack)
        save_record(folder, _describe_study(context, identity))
        strategy, followers = follow(context.data.info)
        retention = Retention(folder, strategy.results(), keep_for_search(study, identity.overrides.num_leading))
        observers = [*followers.trackers, retention, notifier, report, *followers.own]
        save_num_trials = partial(_save_num_trials, context, identity, followers.trackers)
        run_trial_stage(SEARCH, context, strategy, observers, followers.status, save_num_trials)
        trials = _take_results(study, folder, strategy)
        finalists = _retrain_finalists(context, identity, trials, followers, factories)
        followers.status.enter("final evaluation")
        best = keep_winner(folder, study.objective, finalists) or keep_best(folder, study, trials)
        failure = explain_baseline_failure(trials, finalists, study.objective)
        asked = identity.overrides
        nodes = list_nodes()  # before the evaluation, which can do without Ray
        machine = Machine.describe(nodes, find_price(BOOTSTRAP_CONFIG, nodes))
        summary = summarise_finalists(finalists, study.objective, asked.finalists, asked.seeds)
        results = Results(
            study=study.name,
            objective=study.objective,
            second_objective=study.second_objective,
            pareto_front=tuple(trial.number for trial in find_front(trials, study.objectives)),
            max_epochs=asked.max_epochs,
            trials=tuple(trials),
            best=best,
            baseline=next((trial for trial in trials if trial.number == BASELINE), None),
            finalists=summary,
            test=_evaluate(context, test_folder, options.data_root, failure, summary),
            data=context.data.info,
            machine=machine,
            duration_s=round(time.monotonic() - began, 3),
        )
        end_run(folder, results, strategy, followers)
    return Outcome(results=results, sync_command=followers.sync_command)


def _follow(
    study: Study,
    options: RunOptions,
    identity: Identity,
    factories: Mapping[str, ObserverFactory],
    report: ReportWriter,
    notifier: Notifier,
    stack: contextlib.ExitStack,
    info: DataInfo,
) -> tuple[Strategy, Followers]:
    """Opens the strategy, and until the stack is closed those who follow the run; info: of its images."""
    folder = options.run_folder
    report.begin(identity.storage_url)
    status = stack.enter_context(StatusFile(folder))
    own = build_observers(factories, folder, study)
    strategy = open_strategy(study, folder, identity)
    ended = strategy.results()
    run = TrackedRun(folder=folder, run_id=identity.run_id, name=options.name, study=study, data=info)
    trackers = open_trackers(run, options, ended)
    stack.callback(close_trackers, trackers)
    notifier.begin(study.objectives, ended)
    return strategy, Followers(status=status, report=report, trackers=trackers, notifier=notifier, own=own)


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


def _save_num_trials(context: SearchContext, identity: Identity, trackers: Sequence[Tracker], num_trials: int) -> None:
    """Keeps how many trials somebody has told the running search to have, for a session to come and the trackers."""
    budget = dataclasses.replace(context.study.budget, trials=num_trials)
    changed = dataclasses.replace(context, study=dataclasses.replace(context.study, budget=budget))
    overrides = dataclasses.replace(identity.overrides, trials=num_trials)
    assert isinstance(context.folder, RunFolder)
    save_record(context.folder, _describe_study(changed, dataclasses.replace(identity, overrides=overrides)))
    for tracker in trackers:
        tracker.set_num_trials(num_trials)


def _retrain_finalists(
    context: SearchContext,
    identity: Identity,
    results: Sequence[TrialResult],
    followers: Followers,
    factories: Mapping[str, ObserverFactory],
) -> list[Finalist]:
    """Trains the best configurations of the search and the baseline again, where that is asked for."""
    asked, study, folder = identity.overrides, context.study, context.folder
    if asked.finalists is None or asked.seeds is None:
        return []
    assert isinstance(folder, RunFolder)
    chosen = choose_finalists(results, study.objective, asked.finalists)
    retraining = open_retraining(study, folder, identity, chosen, asked.seeds)
    for tracker in followers.trackers:
        tracker.begin_finalists(chosen, retraining.results())
    retention = Retention(folder.finalists, retraining.results(), keep_all)
    own = build_observers(factories, folder.finalists, study)
    observers = [*followers.trackers, retention, followers.report, *own]
    again = dataclasses.replace(context, study=retraining.study, folder=folder.finalists)
    run_trial_stage(FINALISTS, again, retraining, observers, followers.status)
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
    context: SearchContext,
    test_folder: Path,
    data_root: Path | None,
    baseline_failure: str | None,
    finalists: FinalistsRecord | None,
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
        seeds=finalists.list_seeds() if finalists else None,
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
