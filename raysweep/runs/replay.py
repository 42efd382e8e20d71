"""Trains a trial of a run again from its record, on Ray as the search did, into a folder beside the trials."""

import dataclasses
import platform
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from raysweep.config import Budget, format_value
from raysweep.errors import UsageError
from raysweep.report.run_view import RunView
from raysweep.run_folder import RunFolder, TrialFolder
from raysweep.runs.sameness import Sameness, compare_histories
from raysweep.runs.trial_account import find_trial
from raysweep.search.launch import SearchContext, launch_trials
from raysweep.search.observer import Observer
from raysweep.search.options import RunOptions
from raysweep.search.preflight import fetch_inputs
from raysweep.search.preparation import size_trials
from raysweep.search.reevaluate import find_recorded_data
from raysweep.search.retention import Retention, keep_all
from raysweep.search.session.lock import hold_lock
from raysweep.search.strategy.strategy import Strategy
from raysweep.storage_faults import guard_writing, say
from raysweep.study import Study
from raysweep.train.history import History, load_history
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import TrialRecord, load_trial
from raysweep.trial_result import Params, TrialResult

LINE_PERIOD_S = 5.0
"""At most one line on stderr in so many seconds."""


class Replay(Strategy):
    """Proposes one trial as its record has it, under its number, and stops it after as many epochs as it had."""

    def __init__(self, study: Study, record: TrialRecord, stop_after: int | None) -> None:
        """stop_after: epochs after which the search stopped the trial; none: it did not."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        optuna_study = optuna.create_study(
            directions=[objective.direction for objective in study.objectives],
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
        )
        optuna_study.add_trials([optuna.create_trial(state=TrialState.FAIL)] * record.number)  # it gets its number
        super().__init__(study, optuna_study)
        self.record = record
        self.stop_after = stop_after

    def trial_config(self, number: int, params: Params) -> TrialConfig:
        """Returns the recorded configuration, its seed included."""
        return self.record.config

    def _suggest(self, trial: optuna.Trial) -> Params:
        return self.record.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Records an epoch, and stops the trial where the search did."""
        super().report(number, epoch, value)
        return epoch == self.stop_after


class EpochLines(Observer):
    """Prints on stderr how the epochs compare with those of before."""

    def __init__(self, metric: str, before: History) -> None:
        self._metric = metric
        self._before = before
        self._next = 0.0

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        """Prints a line for the epoch, unless the last one is fresh."""
        epoch = int(metrics["epoch"])
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_PERIOD_S
        before = self._before[epoch - 1][self._metric] if epoch <= len(self._before) else None
        known = "" if before is None else f", before {format_value(before)}"
        say(f"trial {number}, epoch {epoch}: {self._metric} {format_value(metrics[self._metric])}{known}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Says how a trial came out when it was trained again."""

    number: int
    folder: Path
    """Where it was trained again."""
    objective: str
    state_before: str
    state: str
    value_before: float | None
    value: float | None
    error_before: str | None
    error: str | None
    sameness: Sameness
    versions: Mapping[str, str]
    """Libraries that are not of the versions of then: `then -> now` by name."""

    @property
    def is_same(self) -> bool:
        """Tells whether it ended in the same way, with the same metrics up to rounding."""
        return self.state == self.state_before and self.sameness.is_same


def replay_trial(view: RunView, number: int, options: RunOptions) -> Outcome:
    """Trains a trial again: same configuration, seed, images and epochs; an earlier replay of it is replaced.

    Raises:
        UsageError: there is no such trial, it has not ended, a command works on the run, or no trial fits the cluster.
        DataError: the images cannot be had, or are no longer the same.
    """
    before, folder = find_trial(view, number), view.folder
    if not before.state.is_finished():
        raise UsageError(f"only a trial that has ended can be compared, got trial {number}, which has not; --resume it")
    record, history = load_trial(folder.trial(number)), load_history(folder.trial(number))
    study = _build_study(view, record)
    with hold_lock(folder):
        fetch_inputs(study, folder.cache)
        request, _ = size_trials(study, options)
        data, _ = find_recorded_data(folder, view.record, options.data_root)
        study.task.prepare(data)
        place = _clear(folder, number)
        stop_after = before.last_step if before.state == TrialState.PRUNED else None
        replay = Replay(study, record, stop_after)
        keep = Retention(folder.replays, [], keep_all)
        context = SearchContext(study=study, data=data, request=request, concurrency=1, folder=folder.replays)
        launch_trials(context, replay, [EpochLines(study.objective.metric, history), keep])
    return _describe(view, before, replay.results()[-1], place, compare_histories(history, load_history(place)))


def _build_study(view: RunView, record: TrialRecord) -> Study:
    """Builds a study of the trial's configuration alone."""
    objectives = view.objectives
    return Study(
        name=view.study["name"],
        task=record.config.task,
        data=record.config.data,
        training=record.config.training,
        space={},
        objective=objectives[0],
        second_objective=objectives[1] if len(objectives) > 1 else None,
        budget=Budget(trials=record.number + 1),
    )


def _clear(folder: RunFolder, number: int) -> TrialFolder:
    """Removes an earlier replay of the trial, and returns the folder for this one."""
    place = folder.replays.trial(number)
    with guard_writing(place.path):
        if place.path.is_dir():
            shutil.rmtree(place.path)
        folder.replays.path.mkdir(exist_ok=True)
    return place


def _describe(
    view: RunView, before: FrozenTrial, result: TrialResult, place: TrialFolder, sameness: Sameness
) -> Outcome:
    pick = max if view.objectives[0].direction == "maximize" else min
    best = pick(before.intermediate_values.values(), default=None)
    return Outcome(
        number=before.number,
        folder=place.path,
        objective=view.objectives[0].metric,
        state_before=before.state.name,
        state=result.state,
        value_before=before.values[0] if before.values else best,
        value=result.value,
        error_before=before.user_attrs.get("error"),
        error=result.error,
        sameness=sameness,
        versions=_compare_versions(view.record.versions),
    )


def _compare_versions(then: Mapping[str, str]) -> dict[str, str]:
    """Returns the libraries whose versions are no longer those of the run."""
    changed = {}
    for name, old in then.items():
        try:
            now: Any = platform.python_version() if name == "python" else version(name)
        except PackageNotFoundError:
            now = "not installed"
        if now != old and name != "raysweep":
            changed[name] = f"{old} -> {now}"
    return changed


def describe_outcome(outcome: Outcome, run: Path) -> str:
    """Says for a person whether the trial came out the same."""
    names = {"COMPLETE": "completed", "PRUNED": "was stopped", "FAIL": "failed"}
    lines = [f"trial {outcome.number} of {run}, trained again: {outcome.sameness.describe(outcome.objective)}"]
    if outcome.value is not None and outcome.value_before is not None:
        difference = outcome.value - outcome.value_before
        lines.append(
            f"best {outcome.objective}: {outcome.value:.6g}, before {outcome.value_before:.6g} ({difference:+.3g})"
        )
    if outcome.state != outcome.state_before:
        lines.append(f"it {names[outcome.state]}; before it {names[outcome.state_before]}")
    if outcome.error or outcome.error_before:
        lines.append(f"cause: {outcome.error}; before: {outcome.error_before}")
    if not outcome.is_same and outcome.versions:
        lines.append(f"other versions: {', '.join(f'{name} {text}' for name, text in outcome.versions.items())}")
    return "\n".join([*lines, f"its files: {outcome.folder}"])
