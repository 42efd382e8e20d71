"""Logs to Weights & Biases, from the driver only: a run for each trial, and one for the study."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pydantic
import wandb

from raysweep.atomic_files import Json
from raysweep.config import WandbMode as Mode
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.storage_faults import say
from raysweep.tracking.backend import Backend, TrackedRun, TrackedTrial, hide_password, list_files
from raysweep.tracking.wandb_log import find_last_step, has_summary, remove_empty
from raysweep.tracking.wandb_study import log_data, log_progress, log_results
from raysweep.tracking.wandb_workspace import save_workspace
from raysweep.trial_result import TrialResult

PROJECT = "raysweep"
INIT_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = 60.0


def default_mode() -> Mode:
    """Chooses `online` where a key is known (WANDB_API_KEY or `wandb login`), else `offline`; WANDB_MODE goes first."""
    os.environ.setdefault("WANDB_SILENT", "true")
    chosen = os.environ.get("WANDB_MODE")
    for mode in get_args(Mode):
        if chosen == mode:
            return mode  # type: ignore[no-any-return]
    try:
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except Exception as error:  # a key or a setting that is none: of pydantic, W&B, urllib
        wandb.teardown()  # W&B would go on with half of its settings, the rest of them for its public server
        say(f"W&B: runs are kept offline: {_describe(error)}")
        return "offline"


class WandbRuns(Backend):
    """Keeps a W&B run for the study from start to end, and one for each trial while it trains.

    A run that goes on, online or offline, gets the epochs that none of its parts has yet: each stands there once.
    """

    title = "W&B"
    finish_s = FINISH_TIMEOUT_S * 2

    def __init__(self, run: TrackedRun, mode: Mode) -> None:
        super().__init__(run)
        os.environ.setdefault("WANDB_SILENT", "true")
        self.mode: Mode = mode
        self._num_trials = run.study.budget.trials
        self._study: Any = None
        self._last_step = 0
        """Of the study's run: each row has the next one, in this session and those to come."""
        self._trials: dict[str, Any] = {}

    def open(self) -> None:
        """Opens the study's run, which lives from the search's start to its end."""
        self._choose_mode()
        last_step = find_last_step(self._list_parts("study"))
        self._study = self._init("study", "study", self.run.describe(), has_charts=True)
        self._last_step = max(last_step, self._study.starting_step - 1)  # the next one of what the server has
        for name in ("trials/ended", "best/*"):
            self._study.define_metric(name, step_metric="trials/ended")
        for fill, lack in ((log_data, "no data set is named"), (save_workspace, "no workspace is saved")):
            try:
                fill(self._study, self.run)
            except Exception as error:  # the runs are whole without it
                self.problem = self.problem or f"{lack}: {_describe(error)}"

    def find_open(self, names: Sequence[str]) -> list[str]:
        """Finds the trials that have files of W&B here, none of them with the end; without files it is not known."""
        return [name for name in names if (parts := self._list_parts(name)) and not has_summary(parts, "state")]

    def start_trial(self, trial: TrackedTrial) -> None:
        """Opens the trial's run with its whole configuration."""
        last_step = find_last_step(self._list_parts(trial.name))
        job_type = "finalist" if trial.is_finalist else "trial"
        group = None if trial.finalist_of is None else f"{self.run.name}-finalists-of-{trial.finalist_of:04d}"
        config = {**trial.facts, **trial.config}
        run = self._init(trial.name, job_type, config, group=group, tags=["baseline"] * trial.is_baseline)
        objective = self.run.study.objective
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        run.define_metric(objective.metric, step_metric="epoch", summary=objective.direction[:3])
        self._trials[trial.name] = run
        last_step = max(last_step, run.starting_step - 1)  # the next one of what the server has; `step` is still 0
        for metrics in trial.epochs:
            if metrics["epoch"] > last_step:
                self.log_epoch(trial.name, int(metrics["epoch"]), dict(metrics))

    def log_epoch(self, name: str, epoch: int, metrics: Json) -> None:
        """Logs an epoch as the step of its number."""
        self._trials[name].log(metrics, step=epoch, commit=True)

    def end_trial(self, name: str, result: TrialResult) -> None:
        """Closes the trial's run with its state and best value."""
        run = self._trials.pop(name)
        run.summary.update(
            {
                "state": result.state,
                "best_value": result.value,
                "best_epoch": result.best_epoch,
                "second_value": result.second_value,
                "duration_s": result.duration_s,
                "error": result.error,
            }
        )
        run.finish(exit_code=1 if result.state == "FAIL" else 0)

    def set_num_trials(self, num_trials: int) -> None:
        """Logs on the study's run how many trials are planned now."""
        self._num_trials = num_trials
        self._study.log({"trials/planned": num_trials}, step=self._take_step(), commit=True)

    def log_progress(self, trials: Sequence[TrialResult]) -> None:
        """Logs on the study's run how many trials ended, the best so far, and now and then all of them."""
        log_progress(self._study, self.run, trials, self._num_trials, self._take_step())

    def log_results(self, results: Results) -> None:
        """Logs on the study's run the tables, test figures, pictures, the report and the models; closes all runs."""
        study, self._study = self._study, None
        self.close()
        try:
            log_results(study, self.run, results, self._take_step())
        finally:
            study.finish()

    def close(self) -> None:
        """Closes the runs that an interrupted search leaves behind; W&B shows that they are to go on."""
        runs = [*self._trials.values(), *([self._study] if self._study is not None else [])]
        self._trials, self._study = {}, None
        for run in runs:
            run.mark_preempting()
            run.finish(exit_code=1)

    def describe_error(self, error: Exception) -> str:
        """Describes an error without what may be a secret."""
        return _describe(error)

    @property
    def is_online(self) -> bool:
        """Tells whether W&B's server takes the records as they are made."""
        return self.mode == "online"

    @property
    def sync_command(self) -> str | None:
        """Returns the command that uploads what is offline, of earlier sessions too; none: all is uploaded."""
        place, runs = RunFolder(self._root).wandb, f"offline-run-*-{self.run.run_id}-*"
        is_left = any(not list_files(part, "*.synced") for part in place.glob(runs))  # W&B marks what it has uploaded
        return f"wandb sync {shlex.quote(str(place))}/{runs}" if is_left else None

    @property
    def _root(self) -> Path:
        """Returns the folder in which W&B makes its own: WANDB_DIR, else the run's."""
        return Path(os.environ.get("WANDB_DIR") or self.run.folder.path).expanduser()

    def _take_step(self) -> int:
        """Returns the step of the next row of the study's run."""
        self._last_step += 1
        return self._last_step

    def _list_parts(self, name: str) -> list[Path]:
        """Lists W&B's files of the run of that name, which each session that it was open in has left."""
        run_id = f"{self.run.run_id}-{name}"
        return sorted(self._root.glob(f"*wandb/*run-*-{run_id}*/run-{run_id}.wandb"))

    def _choose_mode(self) -> None:
        """Keeps runs offline where W&B's server does not know the key.

        W&B itself asks the server, so that its rules for addresses, proxies and certificates hold.

        Raises:
            Exception: W&B's settings are wrong; it would go on with its public server.
        """
        server = wandb.setup().settings.base_url
        if self.mode == "online" and (reason := _find_refusal()) is not None:
            self.mode = "offline"
            self.problem = f"runs are kept offline: {reason.replace(server, hide_password(server))}"
        if self.mode == "offline":
            wandb.setup(settings=wandb.Settings(mode="offline"))  # else W&B reports on itself to its server

    def _init(
        self,
        name: str,
        job_type: str,
        config: Json,
        *,
        group: str | None = None,
        tags: Sequence[str] = (),
        has_charts: bool = False,
    ) -> Any:
        """Opens a W&B run; what the environment and W&B's settings files say goes before our own names.

        group: of one configuration's seeds; none: that of the run. has_charts: of the driver's machine, while the run
        is open; a trial may be on any other.
        """
        user = wandb.setup().settings
        earlier = self._list_parts(name)
        run = wandb.init(
            project=user.project or PROJECT,
            entity=user.entity,
            group=user.run_group or group or self.run.name,
            job_type=job_type,
            name=f"{self.run.name}-{name}",
            id=f"{self.run.run_id}-{name}",
            resume="allow",
            config=config,
            tags=[*self.run.tags, *tags, *(user.run_tags or ())],
            dir=str(self._root),
            mode=self.mode,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=not has_charts,
                init_timeout=INIT_TIMEOUT_S,
                finish_timeout=FINISH_TIMEOUT_S,
            ),
        )
        remove_empty(earlier)  # not before: until it has another part, one says that the run was begun
        return run


def _find_refusal() -> str | None:
    """Returns why the server cannot be used; none: it knows the key."""
    try:
        if wandb.login(prompt=False, verify=True):
            return None
    except Exception as error:
        return _describe(error)
    return "no key is known (WANDB_API_KEY, `wandb login`)"


def _describe(error: Exception) -> str:
    """Returns the type and the first line of the message; of a wrong setting not its value, which may be a secret."""
    if isinstance(error, pydantic.ValidationError):
        wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        return f"wrong setting of W&B: {'; '.join(wrong)}"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
