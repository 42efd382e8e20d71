"""Opens the trackers that a search is to be recorded with. Imports none before it is asked for."""

import importlib.util
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from raysweep.config import TrackerName
from raysweep.errors import UsageError
from raysweep.search.options import RunOptions
from raysweep.trial_result import TrialResult

if TYPE_CHECKING:
    from raysweep.tracking.backend import TrackedRun
    from raysweep.tracking.tracker import Tracker

PACKAGES: dict[TrackerName, str] = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
"""What each tracker's file imports."""


def check_trackers(names: Iterable[TrackerName]) -> None:
    """Fails on a tracker whose package is not installed.

    Raises:
        UsageError: it is not.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UsageError(f"--tracker {name} needs the package {PACKAGES[name]}: pip install 'raysweep[{name}]'")


def open_trackers(run: "TrackedRun", options: RunOptions, ended: Sequence[TrialResult]) -> "list[Tracker]":
    """Opens W&B, unless it is disabled, and the trackers that the options name. ended: trials of earlier sessions."""
    from raysweep.tracking.tracker import Tracker
    from raysweep.tracking.wandb_runs import WandbRuns, default_mode

    trackers = []
    mode = options.wandb or default_mode()
    if mode != "disabled":
        trackers.append(Tracker(WandbRuns(run, mode), ended))
    if "tensorboard" in options.trackers:
        from raysweep.tracking.tensorboard_events import TensorboardEvents

        trackers.append(Tracker(TensorboardEvents(run), ended))
    if "mlflow" in options.trackers:
        from raysweep.tracking.mlflow_runs import MlflowRuns

        trackers.append(Tracker(MlflowRuns(run), ended))
    return trackers
