"""Leaves in an Optuna study what optuna-dashboard shows: notes on the study and each trial, and the test pictures."""

import importlib.util
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

    best, test = results.best, results.test
    save_note(study, f"# {results.study}\n\n{test.headline}\n\nBest: trial {best.number}. Lift: {test.lift['text']}\n")
    by_number = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for trial in results.trials:
        save_note(optuna.Trial(study, by_number[trial.number]._trial_id), _describe(trial))
    folder.artifacts.mkdir(exist_ok=True)
    store: Any = FileSystemArtifactStore(folder.artifacts)
    known = {artifact.filename: artifact.artifact_id for artifact in get_all_artifact_meta(study)}
    for path in (*list_files(folder.test, "*.png"), *([folder.report] if folder.report.is_file() else [])):
        if path.name in known:  # of the end before this one
            atomic_files.copy_file(path, folder.artifacts / known[path.name])
        else:
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)


def _describe(trial: TrialResult) -> str:
    """Describes a trial in the dashboard's Markdown."""
    facts = {"value": trial.value, "best epoch": trial.best_epoch, "seconds": round(trial.duration_s, 1)}
    rows = {**facts, "went on after its process died": trial.retries or None, "error": trial.error}
    lines = [f"- {name}: {value}" for name, value in rows.items() if value is not None]
    return "\n".join([f"**{trial.state}**", "", *lines])
