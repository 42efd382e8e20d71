"""The study of a run: one that is named, or one that is proposed for a folder of images and written beside the run."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.catalogue import list_studies, load_study
from raysweep.data.sources import is_folder, resolve_source
from raysweep.errors import UsageError
from raysweep.paths import resolve_path
from raysweep.search.options import DEFAULT_STORAGE, RunOptions
from raysweep.search.start import find_data_root
from raysweep.stages import quieted

DEFAULT_TIME_S = 3600.0


def find_run_study(study: str, values: Mapping[str, Any]) -> str:
    """Returns `study`, or where it is a folder or source of images the file of the study that is proposed for them.

    The file is STORAGE/NAME.py, NAME being the run's. One that is there is taken as it is, by a run that goes on, and
    by a new one if it is for the same path and time budget. values: of flags, by their fields of Overrides and
    RunOptions; none where nothing was said.

    Raises:
        DataError: the images cannot be had.
        UsageError: the run is there already, or goes on and has no such file, or the file is for others, or see
            `write_proposal`.
    """
    if study.endswith(".py") or study in list_studies() or (is_folder(study) and not os.path.isdir(study)):  # noqa: PTH112 - never raises
        return study
    source = resolve_source(study)
    said = {name: value for name, value in values.items() if value is not None}
    storage = resolve_path(said.get("storage", DEFAULT_STORAGE), "--storage")
    name = said.get("name") or name_run(source)
    options = RunOptions(storage=storage, name=name, resume=said.get("resume", False))
    options.check_folder()
    path = Path(f"{options.run_folder.path}.py")
    if options.resume:
        if not path.is_file():
            raise UsageError(
                f"there is no study file {path} of a run to go on with; give the run's study, or its --name"
            )
        return str(path)
    time_s = said.get("time_s")
    is_quiet = said.get("quiet", False)
    if path.exists():
        _check_same(path, name, source, time_s)
        _tell_path(f"{path}, as it is there; without it a new one is made", is_quiet)
        return str(path)
    from raysweep.proposal.facts import look_at_machine
    from raysweep.proposal.study_file import write_proposal

    machine = look_at_machine(use_gpus=said.get("gpus_per_worker") != 0)
    with quieted(is_quiet):
        write_proposal(
            path,
            name,
            source,
            machine,
            time_s=DEFAULT_TIME_S if time_s is None else time_s,
            storage=storage,
            data_root=find_data_root(),
        )
    _tell_path(str(path), is_quiet)
    return str(path)


def _tell_path(text: str, is_quiet: bool) -> None:
    if not is_quiet:
        print(f"study file: {text}", file=sys.stderr)


def _check_same(path: Path, name: str, source: str, time_s: float | None) -> None:
    """Raises UsageError where a study file is not for this run; time_s: the time budget that was asked for, if any."""
    there = load_study(str(path))
    asked: dict[str, tuple[Any, Any]] = {"name": (there.name, name), "data.source": (there.data.source, source)}
    if time_s is not None:
        asked["time budget in seconds"] = there.budget.time_s, time_s
    for what, (has, wants) in asked.items():
        if has != wants:
            raise UsageError(
                f"the {what} of {path} must be {wants!r}, got {has!r}, and it is not overwritten; run it with `tune "
                f"{path}`, remove it, or give another --name"
            )


def name_run(source: str) -> str:
    """Names a run after a folder or source of images."""
    words = re.findall("[A-Za-z0-9]+", Path(source).name)
    return "_".join(words)[:100].rstrip("_") or "images"
