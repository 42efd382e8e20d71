"""A trial's files are written by time: whenever it is killed, stopped or fails, nothing is lost that is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raysweep.config import Objective
from raysweep.data.images import PreparedData
from raysweep.errors import TrialError
from raysweep.file_guard import read_json_lines
from raysweep.run_folder import TrialFolder
from raysweep.train import checkpoint
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.report import EpochReport, Order, StopTrial, leave_order, obey, read_order
from raysweep.trial_config import TrialConfig

NEVER, EACH_EPOCH = 3600.0, 0.0
"""Periods of checkpoints."""
BEST_FIRST = Objective(metric="val/loss", direction="maximize")
BEST_LAST = Objective(metric="val/loss", direction="minimize")


class KilledError(BaseException):
    """The process ends here, and nothing of it runs any more."""


class Trial:
    """One trial in a folder, of which sessions can be ended."""

    def __init__(self, folder: Path, data: PreparedData, make_config: Callable[..., TrialConfig]) -> None:
        self.folder = TrialFolder(folder)
        self.data = data
        self.make_config = make_config
        self.num_reported = 0

    def run(
        self,
        period_s: float,
        objective: Objective,
        until: int | None = None,
        by: type[BaseException] = KilledError,
        **options: Any,
    ) -> list[int]:
        """Trains on, until an epoch or the end; the epochs that it reports."""
        epochs: list[int] = []

        def report(epoch: EpochReport) -> None:
            epochs.append(int(epoch.metrics["epoch"]))
            self.num_reported = max(self.num_reported, epochs[-1])
            if epochs[-1] == until:
                raise by

        config = self.make_config(epochs=5, checkpoint_period_s=period_s)
        kept: dict[str, Any] = {"folder": self.folder, "resume": True, "num_reported": self.num_reported}
        if until is None:
            fit(config, self.data, objective, report=report, **kept, **options)
        else:
            with pytest.raises(by):
                fit(config, self.data, objective, report=report, **kept, **options)
        return epochs

    def history(self) -> list[dict[str, float]]:
        rows = read_json_lines(self.folder.metrics)
        return [{key: value for key, value in row.items() if key not in OF_MACHINES} for row in rows]

    def best(self) -> tuple[Any, dict[str, Any]]:
        weights, facts = checkpoint.load_tensors(self.folder.weights)
        return facts, {name: value.tolist() for name, value in weights.items()}


@pytest.fixture
def make_trial(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> Callable[..., Trial]:
    data = make_data(num_train=16, num_val=8)
    (tmp_path / "trials").mkdir()
    return lambda name: Trial(tmp_path / "trials" / name, data, make_config)


@pytest.mark.parametrize("objective", [BEST_FIRST, BEST_LAST])
@pytest.mark.parametrize(("checkpoint_after", "killed_after"), [(None, 1), (None, 4), (1, 4), (2, 2), (2, 4), (3, 5)])
def test_after_a_kill_the_epochs_since_the_checkpoint_are_trained_again_and_all_is_as_without(
    make_trial: Callable[..., Trial], checkpoint_after: int | None, killed_after: int, objective: Objective
) -> None:
    whole, trial = make_trial("whole"), make_trial("trial")
    whole.run(EACH_EPOCH, objective)
    if checkpoint_after is not None:
        trial.run(EACH_EPOCH, objective, until=checkpoint_after)
    if killed_after != checkpoint_after:
        trial.run(NEVER, objective, until=killed_after)
    assert [row["epoch"] for row in trial.history()] == list(range(1, killed_after + 1)), "each is there when reported"
    goes_on_from = 5 if killed_after == 5 else checkpoint_after or 1
    assert trial.run(NEVER, objective) == list(range(goes_on_from, 6))
    assert trial.history() == whole.history()
    assert trial.best() == whole.best()
    assert trial.folder.checkpoint.is_file(), "the last epoch has a checkpoint, whatever the period"


@pytest.mark.parametrize("objective", [BEST_FIRST, BEST_LAST])
def test_a_trial_that_is_stopped_leaves_the_weights_of_its_best_epoch_and_its_history(
    make_trial: Callable[..., Trial], objective: Objective
) -> None:
    """Nothing of it was written before."""
    whole, trial = make_trial("whole"), make_trial("trial")
    whole.run(EACH_EPOCH, objective, until=3)
    trial.run(NEVER, objective, until=3, by=StopTrial)
    assert trial.best() == whole.best()
    assert trial.history() == whole.history()
    assert not trial.folder.last.exists()


class PausedError(StopTrial):
    """A stop after which the trial is to go on."""

    def __init__(self) -> None:
        super().__init__(goes_on=True)


@pytest.mark.parametrize("period_s", [NEVER, EACH_EPOCH])
def test_a_trial_that_is_paused_goes_on_from_its_last_epoch(make_trial: Callable[..., Trial], period_s: float) -> None:
    whole, trial = make_trial("whole"), make_trial("trial")
    whole.run(EACH_EPOCH, BEST_LAST)
    assert trial.run(period_s, BEST_LAST, until=3, by=PausedError) == [1, 2, 3]
    assert trial.run(NEVER, BEST_LAST) == [3, 4, 5], "the last epoch is reported again, and none is trained again"
    assert trial.history() == whole.history()
    assert trial.best() == whole.best()


@pytest.mark.parametrize(("order", "goes_on"), [(Order.END, False), (Order.PAUSE, True)])
def test_an_order_in_its_folder_ends_a_trial(tmp_path: Path, order: Order, goes_on: bool) -> None:
    folder = TrialFolder(tmp_path)
    obey(read_order(folder))
    leave_order(folder, order)
    with pytest.raises(StopTrial) as stopped:
        obey(read_order(folder))
    assert stopped.value.goes_on == goes_on


def test_a_trial_that_is_killed_before_its_first_checkpoint_has_its_history_only(
    make_trial: Callable[..., Trial],
) -> None:
    trial = make_trial("trial")
    trial.run(NEVER, BEST_LAST, until=3)
    assert {path.name for path in trial.folder.path.rglob("*")} == {trial.folder.metrics.name}


def test_a_trial_that_fails_leaves_no_weights_of_epochs_that_another_try_would_train_again(
    make_trial: Callable[..., Trial],
) -> None:
    """That try may have fewer images at once, and another best epoch."""
    whole, trial = make_trial("whole"), make_trial("trial")
    whole.run(EACH_EPOCH, BEST_LAST, until=2)
    modules: list[torch.nn.Module] = []

    def prepare(module: torch.nn.Module) -> torch.nn.Module:
        modules.append(module)
        return module

    def report(epoch: EpochReport) -> None:
        if epoch.metrics["epoch"] == 2:
            torch.nn.init.constant_(next(iter(modules[0].parameters())), float("nan"))

    config = trial.make_config(epochs=5, checkpoint_period_s=NEVER)
    with pytest.raises(TrialError, match="in epoch 3"):
        fit(config, trial.data, BEST_LAST, report=report, folder=trial.folder, prepare=prepare)
    assert not trial.folder.weights.exists()
    assert not trial.folder.last.exists()
    assert trial.history() == whole.history()
