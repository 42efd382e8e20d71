"""Logs to MLflow: a run for the study, and below it one for each trial.

The server is that of MLFLOW_TRACKING_URI; without one it is a database in the run's folder.
"""

import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, LifecycleStage, Metric, Param, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from raysweep.atomic_files import Json
from raysweep.search.results import Results
from raysweep.tracking.backend import Backend, TrackedRun, TrackedTrial, hide_password, list_files
from raysweep.trial_result import TrialResult

ID = "raysweep.id"
"""Tag of the run's id and the trial's name, by which a run is found that goes on."""
STATES = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}
MAX_PARAM = 500
"""Letters of a parameter's value that every server takes."""


class MlflowRuns(Backend):
    """Keeps an MLflow run for the study and one for each trial, in the experiment MLFLOW_EXPERIMENT_NAME or `raysweep`.

    A run that goes on gets the epochs that it lacks: each stands there once.
    """

    title = "MLflow"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._client: Any = None
        self._experiment = ""
        self._study = ""
        self._is_new = True
        self._trials: dict[str, str] = {}

    def open(self) -> None:
        """Opens the experiment and the study's run, with the images' digest as its data set."""
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for data
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self._uri)
        self._experiment = self._find_experiment()
        self._study, self._is_new = self._open_run("study", {})
        if self._is_new:
            facts = self.run.describe()
            self._log_params(self._study, {"study": self.run.study.name, "objective": self.run.study.objective.metric})
            self._client.log_dict(self._study, facts, self.run.folder.study.name)
            data = self.run.data
            entry = Dataset(str(data.source), data.digest[:36] or "unknown", "local", str(data.source))
            self._client.log_inputs(self._study, datasets=[DatasetInput(entry)])

    def find_open(self, names: Sequence[str]) -> list[str]:
        """Finds the trials without an ended run; none where no session logged any. Who deleted a run wants none."""
        if self._is_new:
            return []
        ended: set[str] = set()
        query, token = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self._study}'", None
        while True:
            page = self._client.search_runs([self._experiment], query, ViewType.ALL, page_token=token)
            for run in page:
                if run.info.status in STATES.values() or run.info.lifecycle_stage == LifecycleStage.DELETED:
                    ended.add(run.data.tags[ID])
            if not (token := page.token):
                return [name for name in names if self._identify(name) not in ended]

    def start_trial(self, trial: TrackedTrial) -> None:
        """Opens the trial's run with its point, and its whole configuration as a file."""
        kind = "finalist" if trial.is_finalist else "baseline" if trial.is_baseline else "trial"
        tags = {MLFLOW_PARENT_RUN_ID: self._study, "raysweep.kind": kind}
        run_id, is_new = self._open_run(trial.name, tags)
        self._trials[trial.name] = run_id
        if is_new:
            self._log_params(run_id, {**trial.facts, **trial.params})
            self._client.log_dict(run_id, trial.config, trial.folder.config.name)
        logged = {metric.step for metric in self._client.get_metric_history(run_id, "epoch")}
        for metrics in trial.epochs:
            if int(metrics["epoch"]) not in logged:
                self.log_epoch(trial.name, int(metrics["epoch"]), dict(metrics))

    def log_epoch(self, name: str, epoch: int, metrics: Json) -> None:
        """Logs an epoch as the step of its number."""
        self._log_metrics(self._trials[name], metrics, epoch)

    def end_trial(self, name: str, result: TrialResult) -> None:
        """Ends the trial's run with its state and best value."""
        run_id = self._trials.pop(name)
        if result.value is not None and result.best_epoch is not None:
            self._log_metrics(run_id, {"best_value": result.value, "best_epoch": result.best_epoch}, result.best_epoch)
        self._client.set_tag(run_id, "raysweep.state", result.state)
        if result.error is not None:
            self._client.set_tag(run_id, "raysweep.error", result.error)
        self._client.set_terminated(run_id, STATES[result.state])

    def log_progress(self, trials: Sequence[TrialResult]) -> None:
        """Logs how many trials ended, and the best so far."""
        row: Json = {"trials/ended": len(trials), "trials/failed": sum(trial.state == "FAIL" for trial in trials)}
        if (best := self.run.find_best(trials)) is not None:
            row |= {"best/value": best.value, "best/trial": best.number}
        self._log_metrics(self._study, row, len(trials))

    def log_results(self, results: Results) -> None:
        """Logs test figures, pictures, reports and the best model, and ends the study's run."""
        folder, study = self.run.folder, self._study
        figures = {f"test/{key}": value for key, value in results.test.to_json().items()}
        numbers = {key: value for key, value in figures.items() if isinstance(value, int | float)}
        self._log_metrics(study, numbers, len(results.trials))
        for path in (*list_files(folder.test, "*.png", "*.txt", "*.json", "*.csv"), folder.results, folder.report):
            if path.is_file():
                self._client.log_artifact(study, str(path), "test" if path.parent == folder.test else None)
        self._client.log_artifacts(study, str(folder.best.path), "best")
        self._client.set_tag(study, "raysweep.best", str(results.best.number))
        self._client.set_terminated(study, "FINISHED")
        self._study = ""

    def close(self) -> None:
        """Ends the runs that an interrupted search leaves behind."""
        for run_id in (*self._trials.values(), *filter(None, [self._study])):
            self._client.set_terminated(run_id, "KILLED")
        self._trials, self._study = {}, ""

    def describe_error(self, error: Exception) -> str:
        """Describes an error; MLflow's name the server's URL, which may have a password."""
        server = self._uri.rstrip("/")
        return super().describe_error(error).replace(server, hide_password(server))

    @property
    def viewer(self) -> str | None:
        """Returns MLflow's command, where the runs are in the run's folder."""
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return None
        return f"mlflow ui --backend-store-uri {shlex.quote(self._uri)}"

    @property
    def _uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.run.folder.mlflow / 'mlflow.db'}"

    def _find_experiment(self) -> str:
        """Returns the experiment's id; it is made where there is none."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "raysweep"
        place = None
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            self.run.folder.mlflow.mkdir(parents=True, exist_ok=True)
            place = (self.run.folder.mlflow / "runs").as_uri()
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name, artifact_location=place))

    def _open_run(self, name: str, tags: Mapping[str, str]) -> tuple[str, bool]:
        """Returns the id of the run of that name, and whether it is a new one; one that was ended goes on."""
        own = self._identify(name)
        found = self._client.search_runs([self._experiment], f"tags.`{ID}` = '{own}'", max_results=1)
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id, False
        facts = {ID: own, MLFLOW_RUN_NAME: f"{self.run.name}-{name}", "raysweep.run": self.run.name}
        words = {f"raysweep.tag.{word}": "true" for word in self.run.tags}
        run = self._client.create_run(self._experiment, tags={**facts, **words, **tags})
        return run.info.run_id, True

    def _identify(self, name: str) -> str:
        """Returns what the tag ID of the run of that name says."""
        return f"{self.run.run_id}-{name}"

    def _log_metrics(self, run_id: str, metrics: Json, step: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(run_id, metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()])

    def _log_params(self, run_id: str, params: Json) -> None:
        self._client.log_batch(run_id, params=[Param(key, str(value)[:MAX_PARAM]) for key, value in params.items()])
