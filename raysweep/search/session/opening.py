"""The beginning of a session of a run: new, or going on, with the Optuna study that it works on."""

import contextlib
import dataclasses
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from raysweep.errors import UsageError
from raysweep.search.options import RunOptions
from raysweep.search.session.identity import Identity, describe_changes, load_stored, restore_identity
from raysweep.search.session.lock import hold_lease
from raysweep.search.session.space_change import change_space
from raysweep.search.session.storage import JOURNAL, has_study, open_storage
from raysweep.search.strategy.strategy import Strategy, create_strategy
from raysweep.study import Study


def enter_run(study: Study, options: RunOptions, stack: contextlib.ExitStack) -> tuple[dict[str, Any] | None, Identity]:
    """What study.json of the run says, none of a new run, and the run's identity.

    The folder of a run that exists is leased until the stack is closed; that of a new one is still to be created.

    Raises:
        UsageError: the folder exists and is not to be resumed, or cannot be; or there is no such Optuna storage.
    """
    run = options.run
    if options.optuna_storage is not None:
        open_storage(run, options.optuna_storage)
    stored = None
    if run.exists():
        if not options.resume:
            raise UsageError(f"{run} exists; go on with it with --resume, or give another --name or --storage")
        stack.enter_context(hold_lease(run))
        stored = load_stored(run)
    if stored is not None:
        return stored, _reopen(study, options, stored)
    if options.resume:
        print(f"{run} has no run to go on with: it begins", file=sys.stderr)
    return None, _identify(study, options)


def create_run(run: Path, stack: contextlib.ExitStack) -> None:
    """Makes the folder of a new run and leases it until the stack is closed.

    Raises:
        UsageError: another driver was faster.
    """
    try:
        run.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"another driver has just begun {run}; give another --name") from None
    stack.enter_context(hold_lease(run))


def _identify(study: Study, options: RunOptions) -> Identity:
    """The identity of a new run. A database may hold the Optuna studies of many runs."""
    run_id = uuid.uuid4().hex[:12]
    return Identity(
        run_id=run_id,
        study_name=study.name if options.optuna_storage is None else f"{study.name}-{run_id}",
        storage_url=options.optuna_storage,
        overrides=options.overrides,
    )


def _reopen(study: Study, options: RunOptions, stored: dict[str, Any]) -> Identity:
    """The identity of a run that goes on, with an Optuna study for its changed space where that is allowed.

    Raises:
        UsageError: the study is another, and may not be; or its storage is.
    """
    identity = restore_identity(stored, options.optuna_storage, options.overrides)
    changes = describe_changes(stored, json.loads(json.dumps(study.to_json())))
    if not changes:
        return identity
    if any(change.startswith(("objective", "second_objective")) for change in changes):
        raise UsageError(
            f"{options.run} was started with another study:\n  " + "\n  ".join(changes) + "\nits trials cannot be "
            "compared by another objective: give that of its start, or start a new run with another --name"
        )
    if not options.allow_space_change:
        raise UsageError(
            f"{options.run} was started with another study:\n  "
            + "\n  ".join(changes)
            + "\ngive the flags of its start, or none; take over the trials that still fit with --allow-space-change; "
            "or start a new run with another --name"
        )
    storage = open_storage(options.run, identity.storage_url)
    return dataclasses.replace(identity, study_name=change_space(study, storage, identity.study_name, options.run))


def open_strategy(study: Study, run: Path, identity: Identity) -> Strategy:
    """The strategy over the run's Optuna study, which is made where no trial has begun.

    Raises:
        UsageError: trials have begun, and their Optuna study is gone.
    """
    storage = open_storage(run, identity.storage_url)
    if (run / "trials").exists() and not has_study(storage, identity.study_name):
        where = identity.to_json()["optuna"]["storage"] or run / JOURNAL
        raise UsageError(
            f"the Optuna study {identity.study_name!r} of {run} is not in {where}: restore it from a backup, or start "
            "a new run with another --name"
        )
    names = identity.overrides
    return create_strategy(
        study,
        storage,
        identity.study_name,
        sampler=names.sampler or "default",
        pruner=names.pruner or "default",
    )


def load_finished(
    study: Study, options: RunOptions, stored: dict[str, Any], identity: Identity
) -> dict[str, Any] | None:
    """What results.json holds, where nothing is left to do; stderr says so."""
    path = options.run / "results.json"
    if not path.is_file() or identity.study_name != stored["optuna"]["study_name"]:
        return None
    strategy = open_strategy(study, options.run, identity)
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if strategy.has_work() or len(record["trials"]) != len(strategy.results()):
        return None
    confirmed = record.get("finalists") or {}
    if (confirmed.get("requested"), confirmed.get("seeds")) != (identity.overrides.finalists, identity.overrides.seeds):
        return None
    print(
        f"{options.run} is finished: {len(record['trials'])} trials and their evaluation; a larger --trials extends it",
        file=sys.stderr,
    )
    return record
