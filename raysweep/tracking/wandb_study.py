"""Fills the study's run at W&B: progress, tables, test figures, the report, and the models with where they are from."""

import html
import json
from collections.abc import Sequence
from typing import Any

import wandb

from raysweep.atomic_files import Json
from raysweep.kept_model import check_model
from raysweep.search.results import Results
from raysweep.tracking.backend import TrackedRun, list_files
from raysweep.trial_result import BASELINE, TrialResult

NAMES = ("image", "true", "predicted", "baseline_predicted")
"""Columns of the table of predictions that are texts, whatever they look like: a class may be called NA, or 007."""
MAX_ROWS = 10_000
"""Of the table of predictions; W&B shows no more."""
ALL_LOGGED = 20
"""Trials up to which their table is logged at each end of one; later at each tenth more, as each is a whole table."""


def log_data(study: Any, run: TrackedRun) -> None:
    """Names the images as an artifact that the study's run uses: their digest and counts, not themselves."""
    facts = run.describe()["data"]
    artifact = wandb.Artifact(f"data-{run.data.digest[:12] or 'unknown'}", type="dataset", metadata=facts)
    with artifact.new_file("data.json", mode="w") as file:
        json.dump(facts, file, indent=1, sort_keys=True)
    study._log_artifact(artifact, is_user_created=True, use_after_commit=True)  # `use_artifact` refuses offline runs


def log_progress(study: Any, run: TrackedRun, trials: Sequence[TrialResult], num_trials: int, step: int) -> None:
    """Logs how many trials ended, the best so far, and, more seldom the more there are, the table of all.

    num_trials: that are planned. step: of the study's run, that no row of it has yet.
    """
    count = len(trials)
    states = [trial.state for trial in trials]
    row: Json = {
        "trials/ended": count,
        "trials/completed": states.count("COMPLETE"),
        "trials/stopped_early": states.count("PRUNED"),
        "trials/failed": states.count("FAIL"),
        "trials/planned": num_trials,
    }
    if (best := run.find_best(trials)) is not None:
        row |= {"best/value": best.value, "best/trial": best.number}
        study.summary.update({"best": _describe_trial(best)})
    if count <= ALL_LOGGED or count % (count // 10) == 0:
        row["trials"] = _build_table(trials)
    study.log(row, step=step, commit=True)


def log_results(study: Any, run: TrackedRun, results: Results, step: int) -> None:
    """Logs tables, pictures, reports, test figures, and the models of the best trial and the baseline.

    step: of the study's run, that no row of it has yet.
    """
    folder = run.folder
    summary = summarise_results(results)
    study.log(
        {
            "trials/ended": len(results.trials),
            "trials": _build_table(results.trials),
            **_build_predictions(run),
            **_build_finalists(results),
            **{path.stem: wandb.Image(str(path)) for path in list_files(folder.test, "*.png")},
            **{path.stem: _show_text(path.read_text(encoding="utf-8")) for path in list_files(folder.test, "*.txt")},
            **({"report": wandb.Html(str(folder.report), inject=False)} if folder.report.is_file() else {}),
        },
        step=step,
        commit=True,
    )
    study.summary.update({"best": summary["best"], **{f"test/{key}": value for key, value in summary["test"].items()}})
    _log_models(study, run, results, summary)


def summarise_results(results: Results) -> Json:
    """Returns what W&B keeps beside the study's run and its model, as the JSON that W&B asks for."""
    values = results.to_json()
    return {
        "study": results.study,
        "best": values["best"],
        "data": {key: values["data"][key] for key in ("source", "synthetic", "digest")},
        "test": {key: value for key, value in values["test"].items() if isinstance(value, int | float | str)},
    }


def _log_models(study: Any, run: TrackedRun, results: Results, summary: Json) -> None:
    """Logs the models as versions of one artifact, the best one last; that of the baseline only where it is kept."""
    name, best, baseline = f"{run.name}-{run.run_id}", results.best, results.baseline
    if best.number != BASELINE and baseline is not None:
        kept = run.folder.trial(BASELINE)
        finalist = run.folder.finalists.baseline
        weights, config = (finalist.weights, finalist.config) if results.finalists else (kept.weights, kept.config)
        if weights.is_file() and config.is_file():
            artifact = wandb.Artifact(name, type="model", metadata={**summary, "model": _describe_trial(baseline)})
            artifact.add_file(str(weights), weights.name)
            artifact.add_file(str(config), config.name)
            study.log_artifact(artifact, aliases=["baseline"])
    artifact = wandb.Artifact(name, type="model", metadata={**summary, "model": _describe_trial(best)})
    check_model(run.folder.best)
    artifact.add_dir(str(run.folder.best.path))
    study.log_artifact(artifact, aliases=["best", *(["baseline"] if best.number == BASELINE else []), "latest"])


def _build_table(trials: Sequence[TrialResult]) -> Any:
    keys = sorted({key for trial in trials for key in trial.params})
    table = wandb.Table(
        columns=["number", "state", "value", "second_value", "best_epoch", "duration_s", "error", *keys]
    )
    for trial in sorted(trials, key=lambda trial: trial.number):
        facts = (trial.number, trial.state, trial.value, trial.second_value, trial.best_epoch, trial.duration_s)
        params = (None if key not in trial.params else str(trial.params[key]) for key in keys)
        table.add_data(*facts, trial.error, *params)
    return table


def _build_predictions(run: TrackedRun) -> Json:
    """Returns the table of what the best model says of the test images, where the task writes one."""
    import pandas as pd

    path = run.folder.test / "predictions.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, nrows=MAX_ROWS, dtype=dict.fromkeys(NAMES, "str"), keep_default_na=False)
    return {"predictions_table": wandb.Table(dataframe=table)}


def _build_finalists(results: Results) -> Json:
    """Returns the table of the configurations that were trained again."""
    if results.finalists is None:
        return {}
    table = wandb.Table(columns=["trial", "search_value", "mean", "low", "high", "optimism", "seeds"])
    for record in results.finalists.configurations:
        bounds = (record.mean, record.low, record.high)
        table.add_data(record.trial, record.search_value, *bounds, record.optimism, len(record.values))
    return {"finalists": table}


def _describe_trial(trial: TrialResult) -> Json:
    return {"number": trial.number, "value": trial.value, "best_epoch": trial.best_epoch, "params": trial.params}


def _show_text(text: str) -> Any:
    return wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False)
