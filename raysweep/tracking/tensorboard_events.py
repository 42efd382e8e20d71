"""Writes TensorBoard's event files: a folder for each trial, with its point for HParams, and one for the study."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from raysweep.atomic_files import Json
from raysweep.search.results import Results
from raysweep.tracking.backend import Backend, TrackedRun, TrackedTrial, list_files
from raysweep.trial_result import TrialResult

BEST = "hparam/best_value"
"""The metric that HParams compares trials by, beside the objective of their last epoch."""


END = "result"
"""The text that is written last of a trial."""


class TensorboardEvents(Backend):
    """Writes `tensorboard/` in the run's folder. A trial that goes on is written anew: each epoch stands there once."""

    title = "TensorBoard"

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self._study: Any = None
        self._is_new = True
        self._trials: dict[str, Any] = {}

    def open(self) -> None:
        """Opens the study's folder; sessions that begin in the same second write to files of different names."""
        folder = self.run.folder.tensorboard / "study"
        num_files = len(list_files(folder, "*"))
        self._is_new = num_files == 0
        self._study = SummaryWriter(str(folder), filename_suffix=f".{num_files}")

    def find_open(self, names: Sequence[str]) -> list[str]:
        """Finds the trials whose folders lack the end, which are written anew; none where no session wrote any."""
        return [] if self._is_new else [name for name in names if not self._has_end(name)]

    def start_trial(self, trial: TrackedTrial) -> None:
        """Opens the trial's folder and writes its point and the epochs that ended before."""
        folder = self.run.folder.tensorboard / trial.name
        shutil.rmtree(folder, ignore_errors=True)
        writer = self._trials[trial.name] = SummaryWriter(str(folder))
        point = {
            key: value if isinstance(value, bool | int | float) else str(value) for key, value in trial.params.items()
        }
        for summary in hparams(point, dict.fromkeys([self.run.study.objective.metric, BEST]))[:2]:
            writer.file_writer.add_summary(summary)
        for metrics in trial.epochs:
            self.log_epoch(trial.name, int(metrics["epoch"]), dict(metrics))

    def log_epoch(self, name: str, epoch: int, metrics: Json) -> None:
        """Writes each metric of an epoch."""
        writer = self._trials[name]
        for key, value in metrics.items():
            if key != "epoch":
                writer.add_scalar(key, value, epoch)

    def end_trial(self, name: str, result: TrialResult) -> None:
        """Writes how the trial ended."""
        writer = self._trials.pop(name)
        if result.value is not None:
            writer.add_scalar(BEST, result.value, result.best_epoch)
        writer.add_text(END, _describe(result))
        if result.state != "FAIL":
            writer.file_writer.add_summary(hparams({}, {})[2])  # it says that all went well
        writer.close()

    def log_progress(self, trials: Sequence[TrialResult]) -> None:
        """Writes how many trials ended, and the best so far."""
        if (best := self.run.find_best(trials)) is not None:
            self._study.add_scalar("best/value", best.value, len(trials))
            self._study.add_scalar("best/trial", best.number, len(trials))
        self._study.add_scalar("trials/failed", sum(trial.state == "FAIL" for trial in trials), len(trials))
        self._study.flush()

    def log_results(self, results: Results) -> None:
        """Writes pictures, reports and test figures."""
        step, test = len(results.trials), self.run.folder.test
        for path in list_files(test, "*.png"):
            self._study.add_image(f"test/{path.stem}", _load_picture(path), step, dataformats="HWC")
        for path in list_files(test, "*.txt"):
            indented = path.read_text(encoding="utf-8").replace("\n", "\n    ")
            self._study.add_text(f"test/{path.stem}", f"    {indented}", step)
        for key, value in results.test.to_json().items():
            if isinstance(value, int | float):
                self._study.add_scalar(f"test/{key}", value, step)
        self._study.add_text("best", _describe(results.best), step)

    def close(self) -> None:
        """Closes all files."""
        for writer in (*self._trials.values(), *([self._study] if self._study is not None else [])):
            writer.close()
        self._trials, self._study = {}, None

    def _has_end(self, name: str) -> bool:
        """Tells whether the trial's files have its last text; tags stand in them as they are."""
        tag = f"{END}/text_summary".encode()
        return any(tag in path.read_bytes() for path in list_files(self.run.folder.tensorboard / name, "*"))

    @property
    def viewer(self) -> str:
        """Returns TensorBoard's command."""
        return f"tensorboard --logdir {shlex.quote(str(self.run.folder.tensorboard))}"


def _describe(result: TrialResult) -> str:
    """Describes a trial in TensorBoard's Markdown."""
    facts = {"trial": result.number, "state": result.state, "value": result.value, "best epoch": result.best_epoch}
    rows = {**facts, "error": result.error, **result.params}
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items() if value is not None)]
    )


def _load_picture(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
