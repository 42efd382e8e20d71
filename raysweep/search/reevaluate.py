"""Repeats the test evaluation of a finished run."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from raysweep.cores import count_cores
from raysweep.data.sources import load_source, refuse_foreign_source
from raysweep.errors import UsageError
from raysweep.evaluate.test_figures import TestFigures
from raysweep.report.writer import write_quietly
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results, load_results, save_results
from raysweep.search.session.identity import StudyRecord, check_digest, load_record
from raysweep.search.session.lock import hold_lock
from raysweep.storage_faults import say
from raysweep.trial_result import BASELINE

if TYPE_CHECKING:
    from raysweep.data.images import PreparedData


def reevaluate(run_folder: RunFolder, data_root: Path | None, storage_url: str | None = None) -> TestFigures:
    """Evaluates the best model of a run again, on the same test images, and updates results.json.

    The decoded images come from the cache beside the run; where it is gone they are decoded again. storage_url: as of
    `write_quietly`.

    Raises:
        UsageError: the folder is not that of a finished run, or a driver works in it.
        DataError: the images cannot be had, or are no longer the same.
    """
    data, test_folder = find_data(run_folder, data_root)
    from raysweep.evaluate.final import evaluate_final  # slow: after what can be refused without it

    with hold_lock(run_folder):
        results = load_results(run_folder)
        test = evaluate_final(
            run_folder,
            test_folder,
            data=data,
            reason="evaluated again",
            num_threads=count_cores(),
            data_root=data_root,
            seeds=results.finalists.list_seeds() if results.finalists else None,
            baseline_failure=None if has_baseline(run_folder, results) else find_baseline_failure(results),
        )
        save_results(run_folder, dataclasses.replace(results, test=test))
    if (fault := write_quietly(run_folder, storage_url)) is not None:
        say(fault)
    return test


def find_data(run_folder: RunFolder, data_root: Path | None) -> tuple["PreparedData", Path]:
    """Finds the decoded images of a finished run, and the folder of its test split.

    They come from the cache beside the run; where it is gone they are decoded again.

    Raises:
        UsageError: the folder is not that of a finished run.
        DataError: the images cannot be had, or are no longer the same.
    """
    load_results(run_folder)
    record = load_record(run_folder)
    if record is None:
        raise UsageError(f"{run_folder.path} is not the folder of a run: it has no {run_folder.study.name}")
    return find_recorded_data(run_folder, record, data_root)


def find_recorded_data(
    run_folder: RunFolder, record: StudyRecord, data_root: Path | None
) -> tuple["PreparedData", Path]:
    """Finds the decoded images of a run, finished or not, as its study.json names them.

    Raises:
        UsageError: they are not where they were.
        DataError: they cannot be had, or are no longer the same.
    """
    config = record.data
    refuse_foreign_source(config.source, "where you know who wrote it, say --trust-code")
    try:
        source = load_source(
            config.source, split_seed=config.split_seed, storage=run_folder.storage, data_root=data_root
        )
    except UsageError as error:
        hint = "the run's images have moved? Put them, or a link to them, there again"
        raise UsageError(f"{str(error).splitlines()[0]} {hint}") from error
    from raysweep.cluster.connection import connect  # slow: after what can be refused without it
    from raysweep.data import pipeline

    if not pipeline.is_prepared(source, config, run_folder.cache):
        connect("local")
    data, test_folder = pipeline.prepare(source, config, run_folder.cache)
    check_digest(record, config.source, data.info.digest)
    return data, test_folder


def has_baseline(run_folder: RunFolder, results: Results) -> bool:
    """Tells whether trial 0 of the search is the baseline and has its model, which may have been damaged before."""
    completed = results.baseline is not None and results.baseline.state == "COMPLETE"
    is_last = results.finalists is None or results.finalists.winner is None
    return completed and is_last and run_folder.trial(BASELINE).weights.is_file()


def find_baseline_failure(results: Results) -> str | None:
    """Finds why a run has no baseline. Files from before this was stored know how trial 0 of the search ended."""
    baseline, finalists = results.baseline, results.finalists
    if results.test.baseline_failure is not None:
        return results.test.baseline_failure
    if baseline is None or baseline.state != "FAIL" or (finalists and finalists.winner is not None):
        return None
    return baseline.error or "it has no complete trial"
