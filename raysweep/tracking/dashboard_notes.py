"""Leaves in an Optuna study what optuna-dashboard shows: notes on the study and each trial, and the test pictures."""

import importlib.util
from collections.abc import Sequence
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
    ids = _keep_files(study, folder.artifacts, [*of_best, *of_study])
    pictures = "".join(f"\n\n![{path.stem}]({get_artifact_path(study, ids[path.name])})" for path in of_best)
    by_number = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for trial in results.trials:
        note = _describe(trial) + pictures * (trial.number == best.number)
        save_note(optuna.Trial(study, by_number[trial.number]._trial_id), note)


def _keep_files(study: optuna.Study, folder: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Makes files artifacts of the study, as Optuna gives none to a trial that has ended; returns names and ids."""
    folder.mkdir(exist_ok=True)
    store: Any = FileSystemArtifactStore(folder)
    ids = {artifact.filename: artifact.artifact_id for artifact in get_all_artifact_meta(study)}
    for path in paths:
        if path.name in ids:  # of the end before this one
            atomic_files.copy_file(path, folder / ids[path.name])
        else:
            ids[path.name] = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
    return ids


def _describe(trial: TrialResult) -> str:
    """Describes a trial in the dashboard's Markdown."""
    facts = {"value": trial.value, "best epoch": trial.best_epoch, "seconds": round(trial.duration_s, 1)}
    rows = {**facts, "went on after its process died": trial.retries or None, "error": trial.error}
    lines = [f"- {name}: {value}" for name, value in rows.items() if value is not None]
    return "\n".join([f"**{trial.state}**", "", *lines])
