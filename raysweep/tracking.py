"""Logs to Weights & Biases, from the driver only: a run for each trial, and one for the study.

All calls happen on a thread of their own, so that a slow or unreachable server holds up no trial.
"""

import html
import os
import queue
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pydantic
import wandb

from raysweep import signals
from raysweep.announcement import announce
from raysweep.atomic_files import Json
from raysweep.config import WandbMode as Mode
from raysweep.kept_model import check_model
from raysweep.run_folder import RunFolder
from raysweep.search.observer import Observer
from raysweep.search.results import Results
from raysweep.trial_result import TrialResult

PROJECT = "raysweep"
INIT_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = 60.0
INTERRUPTED_TIMEOUT_S = 15.0
"""Of all runs together, where a signal ends the command: whoever sent it kills soon."""


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
        print(f"W&B: runs are kept offline: {_describe(error)}", file=sys.stderr)
        return "offline"


class Tracker(Observer):
    """Follows a search; `search_ended` logs the study itself."""

    def __init__(self, mode: Mode, *, run_folder: RunFolder, run_id: str, group: str, tags: list[str]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        self.mode: Mode = mode
        self.run_folder = run_folder
        self.run_id = run_id
        self.group = group
        self.tags = tags
        self.problem: str | None = None
        self.prefix = ""
        """Stands before the number of a trial that starts, in its run's name and id."""
        self._runs: dict[int, Any] = {}
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        if mode != "disabled":
            self._thread.start()
            self._do(self._prepare)

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Opens the trial's run with its whole configuration."""
        name = f"{self.prefix}{number:04d}"
        self._do(lambda: self._open_trial(number, name, dict(config)))

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Logs an epoch on the `epoch` axis."""
        self._do(lambda: self._runs[number].log(dict(metrics)))

    def trial_ended(self, result: TrialResult) -> None:
        """Closes the trial's run with its state and best value."""
        self._do(lambda: self._close_trial(result))

    def search_ended(self, results: Results) -> None:
        """Logs the study's run: the table of trials, test figures, pictures, reports and the best checkpoint."""
        self._do(lambda: self._log_study(results))
        self.close()

    def close(self) -> None:
        """Waits until all is written, and closes the runs of trials that an interrupted search leaves behind."""
        if self._thread.ident is None or self._is_closed:
            return  # never begun, or closed before
        self._is_closed = True
        self._do(self._close_runs)
        self._queue.put(None)
        with announce("Weights & Biases to finish"):
            self._thread.join(FINISH_TIMEOUT_S * 2 if signals.received() is None else INTERRUPTED_TIMEOUT_S)
        if self._thread.is_alive():
            self.problem = self.problem or "W&B did not finish in time"
        if self.problem:
            print(f"W&B: {self.problem}; the results in {self.run_folder.path} are whole all the same", file=sys.stderr)

    @property
    def sync_command(self) -> str | None:
        """Returns the command that uploads the runs of an offline study."""
        return f"wandb sync {self.run_folder.wandb}/offline-run-*" if self.mode == "offline" else None

    def _do(self, action: Callable[[], None]) -> None:
        if self._thread.ident is not None:
            self._queue.put(action)

    def _work(self) -> None:
        while (action := self._queue.get()) is not None:
            try:
                if self.mode != "disabled":
                    action()
            except Exception as error:  # tracking never ends a study
                self.problem = self.problem or _describe(error)

    def _close_runs(self) -> None:
        while self._runs:
            _, run = self._runs.popitem()
            run.finish(exit_code=1)

    def _prepare(self) -> None:
        """Logs nothing where W&B's settings are wrong; keeps runs offline where its server does not know the key.

        W&B itself asks the server, so that its rules for addresses, proxies and certificates hold.
        """
        try:
            server = wandb.setup().settings.base_url
        except Exception as error:
            self.mode = "disabled"
            self.problem = f"nothing is logged: {_describe(error)}"
            return
        if self.mode == "offline":
            return
        reason = "no key is known (WANDB_API_KEY, `wandb login`)"
        try:
            if wandb.login(prompt=False, verify=True):
                return
        except Exception as error:
            reason = _describe(error)
        self.mode = "offline"
        self.problem = f"runs are kept offline: {reason.replace(server, _hide_password(server))}"

    def _init(self, name: str, run_id: str, job_type: str, config: Json) -> Any:
        return wandb.init(
            project=PROJECT,
            group=self.group,
            job_type=job_type,
            name=name,
            id=run_id,
            resume="allow",
            config=config,
            tags=self.tags,
            dir=str(self.run_folder.path),
            mode=self.mode,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                init_timeout=INIT_TIMEOUT_S,
                finish_timeout=FINISH_TIMEOUT_S,
            ),
        )

    def _open_trial(self, number: int, name: str, config: Json) -> None:
        run = self._init(f"{self.group}-{name}", f"{self.run_id}-{name}", "trial", config)
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        self._runs[number] = run

    def _close_trial(self, result: TrialResult) -> None:
        run = self._runs.pop(result.number)
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

    def _log_study(self, results: Results) -> None:
        self._close_runs()
        summary = summarise_results(results)
        run = self._init(f"{self.group}-study", f"{self.run_id}-study", "study", summary)
        keys = sorted({key for result in results.trials for key in result.params})
        table = wandb.Table(columns=["number", "state", "value", "second_value", "best_epoch", "duration_s", *keys])
        for result in results.trials:
            table.add_data(
                result.number,
                result.state,
                result.value,
                result.second_value,
                result.best_epoch,
                result.duration_s,
                *(None if key not in result.params else str(result.params[key]) for key in keys),
            )
        test = self.run_folder.test
        run.log({"trials": table, **{path.stem: wandb.Image(str(path)) for path in sorted(test.glob("*.png"))}})
        reports = {path.stem: path.read_text(encoding="utf-8") for path in sorted(test.glob("*.txt"))}
        run.log({name: wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False) for name, text in reports.items()})
        run.summary.update({f"test/{key}": value for key, value in summary["test"].items()})
        artifact = wandb.Artifact(f"{self.run_id}-best", type="model", metadata=summary)
        check_model(self.run_folder.best)
        artifact.add_dir(str(self.run_folder.best.path))
        run.log_artifact(artifact)
        run.finish()


def summarise_results(results: Results) -> Json:
    """Returns what W&B keeps beside the study's run and its model, as the JSON that W&B asks for."""
    values = results.to_json()
    return {
        "study": results.study,
        "best": values["best"],
        "data": {key: values["data"][key] for key in ("source", "synthetic", "digest")},
        "test": {key: value for key, value in values["test"].items() if isinstance(value, int | float | str)},
    }


def _hide_password(url: str) -> str:
    """Returns the URL of a server without what stands before its host."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _describe(error: Exception) -> str:
    """Returns the type and the first line of the message; of a wrong setting not its value, which may be a secret."""
    if isinstance(error, pydantic.ValidationError):
        wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        return f"wrong setting of W&B: {'; '.join(wrong)}"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
