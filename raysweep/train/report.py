"""Defines what a trial sends to the driver: an epoch, or the cause of its failure."""

import dataclasses
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from raysweep import atomic_files
from raysweep.run_folder import TrialFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """Says what is known after an epoch; its metrics are on disk by then, after the last one everything."""

    metrics: dict[str, float]
    """`epoch` (from 1), `train/...`, `val/...`, `learning_rate`, and what `history.OF_THE_LOOP` names."""
    value: float
    """The objective after this epoch."""
    best_value: float
    best_epoch: int
    finished: bool
    """No epoch follows: all are done, or early stopping ended the trial."""
    second_value: float | None = None
    """The second objective at the best epoch; none: there is none."""
    cause: str | None = None
    """Why the task ended the trial before its last epoch; none: it did not."""
    notice: str | None = None
    """What a person should know of how the trial's process began, with its first report."""

    def add_notice(self, notice: str) -> "EpochReport":
        """Returns the report with one more notice."""
        return dataclasses.replace(self, notice=notice if self.notice is None else f"{notice}; {self.notice}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialFailure:
    """Says why a trial's process cannot go on."""

    error: str
    """One line for a person."""
    died: bool
    """Whether a process died, which may well end better on another try; else an exception was raised."""
    of_storage: bool = False
    """Whether it is no fault of the trial, which is to go on when the storage is mended."""


class StopTrial(Exception):  # noqa: N818 - a decision, not an error
    """Ends the loop of a trial that is to stop: raised where an epoch is reported."""

    def __init__(self, *, goes_on: bool = False) -> None:
        super().__init__()
        self.goes_on = goes_on
        """Whether another process of the trial is to go on from here."""


class Order(IntEnum):
    """Says what a trial is to do once it has reported an epoch; the driver leaves it in the trial's folder."""

    GO_ON = 0
    END = 1
    PAUSE = 2
    """End now, to go on later."""


def leave_order(folder: TrialFolder, order: Order) -> None:
    """Leaves an order for a trial.

    Raises:
        StorageError: the storage does not take it.
    """
    atomic_files.write_text(folder.stop_file, order.name if order is Order.PAUSE else "", sync=False)


def obey(order: int) -> None:
    """Ends the loop of a trial that is to end.

    Raises:
        StopTrial: it is.
    """
    if order != Order.GO_ON:
        raise StopTrial(goes_on=order == Order.PAUSE)


def read_order(folder: TrialFolder) -> Order:
    """Reads what a trial is to do."""
    try:
        return Order.PAUSE if folder.stop_file.read_bytes() == Order.PAUSE.name.encode() else Order.END
    except OSError:  # none is there
        return Order.GO_ON


TrialReport = EpochReport | TrialFailure
Message = dict[str, Any]
"""The dict that Ray asks for; it adds values of its own, of any type."""


def pack_report(report: TrialReport) -> Message:
    """Wraps a report in the dict that Ray Tune and Ray Train ask for.

    It is pickled: what only hands it on, such as Ray Train's controller, would have to import torch and all of
    raysweep to look inside, six CPU seconds and 700 MB.
    """
    return {"pickled": pickle.dumps(report)}


def unpack_report(message: Mapping[str, Any]) -> TrialReport:
    """Takes the report out of the dict as it arrives in the driver, with Ray Tune's own keys beside it."""
    report: TrialReport = pickle.loads(message["pickled"])
    return report
