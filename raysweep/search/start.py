"""Resolves what the command line or a caller asks for: which study, changed how, and where and how it runs."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep import config_fields, own_code
from raysweep.catalogue import load_study, locate_study
from raysweep.data.sources import refuse_foreign_source, resolve_source
from raysweep.errors import UsageError
from raysweep.paths import resolve_path
from raysweep.search.flags import list_flags
from raysweep.search.options import DEFAULT_STORAGE, RunOptions
from raysweep.search.overrides import Overrides
from raysweep.search.strategy.pruners import PRUNERS
from raysweep.search.strategy.samplers import SAMPLERS
from raysweep.study import Study


def resolve_search(study: Study | str | Path, values: Mapping[str, Any]) -> tuple[Study, RunOptions]:
    """Returns the study with its changes, and the options of its run.

    study: a study, a name in search_spaces/ or the path of a file. values: of flags, by their fields of Overrides and
    RunOptions; None where nothing was said.

    Raises:
        UsageError: there is no such study or field, or a value is not legal.
    """
    check_keywords(values)
    said = {name: value for name, value in values.items() if value is not None}
    argument = None if isinstance(study, Study) else locate_study(str(study))
    loaded = study if isinstance(study, Study) else load_study(str(study))
    storage = resolve_path(said.get("storage", DEFAULT_STORAGE), "--storage")
    place = {"storage": storage, "name": said.get("name", loaded.name)}
    options = config_fields.from_json(RunOptions, {**_pick(said, RunOptions), **place})
    run_folder = options.run_folder
    overrides = build_overrides(said)
    if options.resume:
        from raysweep.search.session.identity import load_overrides

        earlier = load_overrides(run_folder, None if said.get("allow_space_change") else loaded.name)
        _refuse_stored_code(earlier, overrides)
        overrides = overrides.over(earlier)
    resolved = overrides.apply(loaded)
    return resolved, dataclasses.replace(
        options, overrides=overrides, study_argument=argument, data_root=find_data_root()
    )


def build_overrides(values: Mapping[str, Any]) -> Overrides:
    """Returns the changes of a study among the values of flags.

    Raises:
        UsageError: a value is not of its field's type.
    """
    said = {name: value for name, value in _pick(values, Overrides).items() if value is not None}
    if "data" in said:
        said["data"] = resolve_source(str(said["data"]))
    return config_fields.from_json(Overrides, said)


def _refuse_stored_code(earlier: Overrides, now: Overrides) -> None:
    """Refuses code of somebody's own that a run's folder names, unless it is named again now."""
    for flag, registry, stored, said in (
        ("--sampler", SAMPLERS, earlier.sampler, now.sampler),
        ("--pruner", PRUNERS, earlier.pruner, now.pruner),
    ):
        if stored is not None and said is None:
            registry.refuse_foreign(stored, f"name it again with {flag} {stored}")
    for setting in (f"data.source={earlier.data or ''}", *earlier.settings):
        key, _, source = setting.partition("=")
        if key.startswith("task.") and own_code.is_reference(source) and setting not in now.settings:
            own_code.refuse_untrusted([source], f"name it again with --set {setting}")
        if key == "data.source" and now.data is None and setting not in now.settings:
            refuse_foreign_source(source, f"name it again with --data {source}")


def check_keywords(values: Mapping[str, Any]) -> None:
    """Fails on a name that is no flag's field.

    Raises:
        UsageError: the message lists those that are.
    """
    flags = {flag.field: flag for kind in (Overrides, RunOptions) for flag in list_flags(kind)}
    spelled = {name.removeprefix("--").replace("-", "_"): flag for flag in flags.values() for name in flag.names}
    for name in values:
        if name not in flags and name in spelled:
            raise UsageError(f"unknown keyword {name!r}: {spelled[name].names[0]} is {spelled[name].field}= in Python")
        if name not in flags:
            raise UsageError(config_fields.unknown_name("keyword", name, flags))


def find_data_root() -> Path | None:
    """Finds the folder in RAYSWEEP_DATA, which may hold mnist/ and fashion-mnist/."""
    value = os.environ.get("RAYSWEEP_DATA")
    return resolve_path(value, "RAYSWEEP_DATA") if value else None


def _pick(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    return {flag.field: values[flag.field] for flag in list_flags(kind) if flag.field in values}
