"""The end of a run that is cut short once its results are stored: the next session tells who has not heard of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raysweep import atomic_files
from raysweep.config import Budget
from raysweep.report.writer import ReportWriter
from raysweep.run_folder import RunFolder
from raysweep.search.ending import Followers, end_run
from raysweep.search.notification import Notifier
from raysweep.search.options import RunOptions
from raysweep.search.results import Results, load_results
from raysweep.search.run import run_study
from raysweep.search.status import StatusFile
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.trial_result import TrialResult


class Killed(ReportWriter):
    """Is killed where the report is to be written, before any tracker is told."""

    def search_ended(self, results: Results) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    return make_study(budget=Budget(trials=1))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def strategy(study: Study, folder: RunFolder, begin_run: Callable[..., Strategy]) -> Strategy:
    """The strategy of a search whose one trial has ended."""
    strategy = begin_run(folder, study)
    number, params = strategy.propose() or pytest.fail("nothing is proposed")
    result = TrialResult(number=number, state="COMPLETE", value=0.5, best_epoch=1, params=dict(params), duration_s=1.0)
    strategy.report(number, 1, 0.5)
    strategy.tell(result)
    atomic_files.write_text(folder.best.weights, "weights")
    atomic_files.write_text(folder.best.config, "{}")
    return strategy


def test_trackers_get_the_final_figures_of_a_session_that_was_killed_once(
    study: Study,
    folder: RunFolder,
    strategy: Strategy,
    build_results: Callable[..., Results],
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = build_results(strategy.results())
    followers = Followers(
        status=StatusFile(folder), report=Killed(folder), trackers=(), notifier=Notifier((), folder), own=()
    )
    with pytest.raises(KeyboardInterrupt):
        end_run(folder, results, strategy, followers)
    assert load_results(folder) == results
    options = RunOptions(storage=folder.storage, name="run", resume=True, wandb="disabled", trackers=("tensorboard",))
    assert run_study(study, options).results == results
    assert "all were told: they are told now" in capsys.readouterr().err
    events = EventAccumulator(str(folder.tensorboard / "study")).Reload()
    assert [event.value for event in events.Scalars("test/accuracy")] == [0.5]
    assert folder.report.is_file()
    files = sorted(folder.tensorboard.rglob("*"))
    assert run_study(study, options).results == results
    assert sorted(folder.tensorboard.rglob("*")) == files, "once is enough"
