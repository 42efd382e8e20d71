"""Leaves in an Optuna study what optuna-dashboard shows: notes on the study and each trial, with their pictures."""

import importlib.util
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from raysweep import atomic_files
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.storage_faults import say
from raysweep.tracking.backend import list_files
from raysweep.trial_result import TrialResult


def leave_notes(study: optuna.Study, folder: RunFolder, results: Results) -> None:
    """Writes notes and copies pictures to `artifacts/`, where optuna-dashboard is installed; never fails a run."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        return
    try:
        _leave_notes(study, folder, results)
    except Exception as error:  # the results are whole without them
        say(f"optuna-dashboard will show no notes: {type(error).__name__}: {error}")


def _leave_notes(study: optuna.Study, folder: RunFolder, results: Results) -> None:
    from optuna_dashboard import save_note
    from optuna_dashboard.artifact import get_artifact_path

    best, test = results.best, results.test
    save_note(study, f"# {results.study}\n\n{test.headline}\n\nBest: trial {best.number}. Lift: {test.lift['text']}\n")
    of_best = [path for path in list_files(folder.test, "*.png") if path != folder.pareto_front]
    of_study = [path for path in (folder.pareto_front, folder.report) if path.is_file()]
    of_trials = {trial.number: list_files(folder.trial(trial.number).samples, "*.png")[-1:] for trial in results.trials}
    samples = {f"trial_{number:04d}.png": path for number, paths in of_trials.items() for path in paths}
    ids = _keep_files(study, folder.artifacts, {path.name: path for path in (*of_best, *of_study)} | samples)

    def show(names: Iterable[str]) -> str:
        return "".join(f"\n\n![{Path(name).stem}]({get_artifact_path(study, ids[name])})" for name in names)

    by_number = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for trial in results.trials:
        names = [f"trial_{trial.number:04d}.png"] if of_trials[trial.number] else []
        names += [path.name for path in of_best] if trial.number == best.number else []
        save_note(optuna.Trial(study, by_number[trial.number]._trial_id), _describe(trial) + show(names))


def _keep_files(study: optuna.Study, folder: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Makes files artifacts of the study, as Optuna gives none to a trial that has ended; returns names and ids."""
    folder.mkdir(exist_ok=True)
    store: Any = FileSystemArtifactStore(folder)
    ids = {artifact.filename: artifact.artifact_id for artifact in get_all_artifact_meta(study)}
    for name, path in files.items():
        if name in ids:  # of the end before this one
            atomic_files.copy_file(path, folder / ids[name])
        else:
            with tempfile.TemporaryDirectory() as place:  # Optuna takes an artifact's name from its file
                copy = Path(place) / name
                atomic_files.copy_file(path, copy)
                ids[name] = upload_artifact(artifact_store=store, file_path=str(copy), study_or_trial=study)
    return ids


def _describe(trial: TrialResult) -> str:
    """Describes a trial in the dashboard's Markdown."""
    facts = {"value": trial.value, "best epoch": trial.best_epoch, "seconds": round(trial.duration_s, 1)}
    rows = {**facts, "went on after its process died": trial.retries or None, "error": trial.error}
    lines = [f"- {name}: {value}" for name, value in rows.items() if value is not None]
    return "\n".join([f"**{trial.state}**", "", *lines])
