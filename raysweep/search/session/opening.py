"""Begins a session of a run, new or going on, with the Optuna study that it works on."""

import contextlib
import dataclasses
import os
import sys
import tempfile
import uuid
from pathlib import Path

from raysweep import config_fields, file_guard
from raysweep.errors import CorruptFileError, UsageError
from raysweep.file_guard import FROM_BACKUP
from raysweep.kept_model import check_complete
from raysweep.run_folder import RunFolder
from raysweep.search.options import RunOptions
from raysweep.search.results import Results, load_results
from raysweep.search.session.identity import (
    Identity,
    StudyRecord,
    check_study_name,
    describe_changes,
    load_record,
    restore_identity,
)
from raysweep.search.session.lock import hold_lock
from raysweep.search.session.space_change import change_space
from raysweep.search.session.storage import guard_study, has_study, open_storage
from raysweep.search.status import load_searched_s
from raysweep.search.strategy.strategy import Strategy, create_strategy
from raysweep.study import Study
from raysweep.trial_result import TrialResult


def enter_run(study: Study, options: RunOptions, stack: contextlib.ExitStack) -> tuple[StudyRecord | None, Identity]:
    """Returns what study.json of the run says, none of a new run, and the run's identity.

    The folder of a run that exists is locked until the stack is closed; that of a new one is still to be created.

    Raises:
        UsageError: the folder exists and is not to be resumed, or cannot be; or there is no such Optuna storage.
    """
    folder = options.run_folder
    check_storage(options.storage)
    if options.optuna_storage is not None:
        open_storage(folder, options.optuna_storage)
    stored = None
    options.check_folder()
    if folder.path.exists():
        stack.enter_context(hold_lock(folder))
        stored = load_record(folder)
    if stored is not None:
        return stored, _reopen(study, options, stored)
    if options.resume:
        print(f"{folder.path} has no run to go on with: it begins", file=sys.stderr)
    return None, _identify(study, options)


def check_storage(storage: Path) -> None:
    """Fails on a storage in which nothing can be written; one that is not there yet is looked at where it will be.

    Raises:
        UsageError: it is no folder, is read-only, or does not answer.
    """
    there = next(path for path in (storage, *storage.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise UsageError(
            f"--storage must be a folder to write in, got {storage}: {there}: {error.strerror or error}; give another"
        ) from None


def create_run(folder: RunFolder, stack: contextlib.ExitStack) -> None:
    """Makes the folder of a new run and locks it until the stack is closed.

    Raises:
        UsageError: another driver was faster.
    """
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"another driver has just begun {folder.path}; give another --name") from None
    stack.enter_context(hold_lock(folder))


def _identify(study: Study, options: RunOptions) -> Identity:
    """Returns the identity of a new run. A database may hold the Optuna studies of many runs."""
    run_id = uuid.uuid4().hex[:12]
    return Identity(
        run_id=run_id,
        study_name=study.name if options.optuna_storage is None else f"{study.name}-{run_id}",
        storage_url=options.optuna_storage,
        overrides=options.overrides,
        study_argument=options.study_argument,
    )


def _reopen(study: Study, options: RunOptions, stored: StudyRecord) -> Identity:
    """Returns the identity of a run that goes on, with an Optuna study for its changed space where that is allowed.

    Raises:
        UsageError: the study is another, and may not be; or its storage is.
    """
    if not options.allow_space_change:
        check_study_name(options.run_folder, stored, study.name)
    identity = restore_identity(stored.identity, options.optuna_storage, options.overrides)
    argument = options.study_argument or identity.study_argument
    identity = dataclasses.replace(identity, study_argument=argument)
    changes = describe_changes(stored.study, study)
    if not changes:
        return identity
    if any(change.startswith(("objective", "second_objective")) for change in changes):
        raise UsageError(
            f"{options.run_folder.path} was started with another study:\n  "
            + "\n  ".join(changes)
            + "\nits trials cannot be "
            "compared by another objective: give that of its start, or start a new run with another --name"
        )
    if not options.allow_space_change:
        raise UsageError(
            f"{options.run_folder.path} was started with another study:\n  "
            + "\n  ".join(changes)
            + "\ngive the flags of its start, or none; take over the trials that still fit with --allow-space-change; "
            "or start a new run with another --name"
        )
    folder = options.run_folder
    storage = open_storage(folder, identity.storage_url)
    with guard_study(folder, identity.storage_url):
        changed = change_space(study, storage, identity.study_name, folder)
    return dataclasses.replace(identity, study_name=changed)


def open_strategy(study: Study, folder: RunFolder, identity: Identity) -> Strategy:
    """Opens the strategy over the run's Optuna study, which is made where no trial has begun.

    Raises:
        UsageError: trials have begun, and their Optuna study is gone; or there is no such sampler or pruner.
        CorruptFileError: the Optuna study is damaged, or lacks trials.
    """
    storage = open_storage(folder, identity.storage_url)
    names = identity.overrides
    with guard_study(folder, identity.storage_url):
        if folder.trials.exists() and not has_study(storage, identity.study_name):
            where = identity.to_json()["optuna"]["storage"] or folder.journal
            raise UsageError(
                f"the Optuna study {identity.study_name!r} of {folder.path} is not in {where}: restore it from a "
                "backup, or start a new run with another --name"
            )
        strategy = create_strategy(
            study,
            storage,
            identity.study_name,
            sampler=names.sampler or "default",
            pruner=names.pruner or "default",
        )
        _check_trials(strategy, folder)
    return strategy


def _check_trials(strategy: Strategy, folder: RunFolder) -> None:
    """Raises ValueError on trials that cannot be, and on an Optuna study that lacks one whose folder is there."""
    with file_guard.decoding():
        for result in strategy.results():
            config_fields.from_json(TrialResult, dataclasses.asdict(result))
    begun, known = [trial.number for trial in folder.list_trials()], strategy.count_trials()
    if begun and max(begun) >= known:
        raise ValueError(f"trials up to number {known - 1} where {folder.trials} has trial {max(begun)}")


def load_finished(study: Study, options: RunOptions, stored: StudyRecord, identity: Identity) -> Results | None:
    """Loads the results where nothing is left to do, and says so on stderr.

    A `best/` that is damaged is something to do: it is made again from its trial's folder.

    Raises:
        CorruptFileError: the Optuna study or results.json is damaged.
    """
    folder = options.run_folder
    if not folder.results.is_file() or identity.study_name != stored.identity.study_name:
        return None
    strategy = open_strategy(study, folder, identity)
    results, trials = load_results(folder), strategy.results()
    budget_s = study.budget.time_s
    is_late = budget_s is not None and load_searched_s(folder) > budget_s
    if strategy.has_work(only_resumed=is_late) or len(results.trials) != len(trials):
        return None
    for ours, theirs in zip(results.trials, trials, strict=True):
        if ours.state == theirs.state == "COMPLETE" and (ours.number, ours.value) != (theirs.number, theirs.value):
            raise CorruptFileError(
                f"{folder.results} and the Optuna study must agree, got {ours.value} and {theirs.value} as the "
                f"objective of trial {theirs.number}: one of them is damaged; {FROM_BACKUP}"
            )
    finalists, asked = results.finalists, identity.overrides
    if (finalists and finalists.requested, finalists and finalists.seeds) != (asked.finalists, asked.seeds):
        return None
    try:
        check_complete(folder.best)
    except CorruptFileError as error:
        print(f"the best model is copied from its trial and evaluated again: {error}", file=sys.stderr)
        return None
    has, asked_for = len(results.trials), study.budget.trials
    why = f": it has {has} trials, and --trials asks for {asked_for}" if asked_for < has else ""
    more = "longer --time-budget" if strategy.has_work() else "larger --trials"
    print(
        f"{folder.path} is finished, and nothing is done{why}: {has} trials and their evaluation; a {more} extends it",
        file=sys.stderr,
    )
    return results
