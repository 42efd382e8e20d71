"""A stage of trials begins with what it knows of those that go on; no trial trains here."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from raysweep.cluster.capacity import Request
from raysweep.data.images import PreparedData
from raysweep.run_folder import RunFolder
from raysweep.search import status as status_file
from raysweep.search import trial_stage
from raysweep.search.launch import SearchContext
from raysweep.search.observer import Observer
from raysweep.search.session.storage import open_storage
from raysweep.search.status import StatusFile, look_at_run
from raysweep.search.strategy.strategy import Strategy, create_strategy
from raysweep.study import Study
from raysweep.trial_result import TrialResult


@pytest.fixture
def data(tmp_path: Path, save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any]) -> PreparedData:
    return save_prepared(tmp_path / "data", {"train": draw_squares(8, 0), "val": draw_squares(4, 1)}, "abcd")


def test_the_status_has_the_epoch_that_a_resumed_trial_goes_on_from(
    tmp_path: Path,
    study: Study,
    data: PreparedData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def launch(context: SearchContext, strategy: Strategy, observers: Sequence[Observer], *_: object) -> None:
        for _number in range(2):
            proposal = strategy.propose()
            assert proposal is not None
            config = strategy.trial_config(*proposal).to_json()
            for observer in observers:
                observer.trial_started(proposal[0], config, proposal[1])

    monkeypatch.setattr(trial_stage, "launch_trials", launch)
    folder = RunFolder(tmp_path)
    folder.study.write_text("{}")
    killed = create_strategy(study, open_storage(folder, None), study.name, sampler="random", pruner="none")
    killed.propose()
    for epoch in (1, 2):
        killed.report(0, epoch, 0.5)
    strategy = create_strategy(study, open_storage(folder, None), study.name, sampler="random", pruner="none")
    context = SearchContext(study=study, data=data, request=Request(), concurrency=1, folder=folder)
    with StatusFile(folder) as status:
        trial_stage.run_trial_stage("search", context, strategy, [], status)
    written = look_at_run(folder).written
    assert written is not None
    assert written.search is not None
    assert [(trial.number, trial.epoch) for trial in written.search.running] == [(0, 2), (1, 0)]


@pytest.mark.parametrize(
    ("searched_s", "resumes", "is_launched"),
    [
        pytest.param(0.0, False, True, id="time is left"),
        pytest.param(60.0, False, False, id="it is used up"),
        pytest.param(60.0, True, True, id="what is under way goes on"),
    ],
)
def test_a_time_budget_is_that_of_all_sessions(
    tmp_path: Path,
    study: Study,
    data: PreparedData,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    searched_s: float,
    resumes: bool,
    is_launched: bool,
) -> None:
    launched: list[float | None] = []
    monkeypatch.setattr(trial_stage, "launch_trials", lambda *args: launched.append(args[3]))
    monkeypatch.setattr(status_file, "load_searched_s", lambda folder: searched_s)
    folder = RunFolder(tmp_path)
    folder.study.write_text("{}")
    timed = dataclasses.replace(study, budget=dataclasses.replace(study.budget, time_s=30.0))
    before = create_strategy(timed, open_storage(folder, None), study.name, sampler="random", pruner="none")
    before.propose()
    before.report(0, 1, 0.5)
    before.tell(TrialResult(number=0, state="COMPLETE", value=0.5, best_epoch=1, params={}, duration_s=1.0))
    if resumes:
        before.propose()
    strategy = create_strategy(timed, open_storage(folder, None), study.name, sampler="random", pruner="none")
    context = SearchContext(study=timed, data=data, request=Request(), concurrency=1, folder=folder)
    with StatusFile(folder) as status:
        trial_stage.run_trial_stage("search", context, strategy, [], status)
        assert bool(launched) is is_launched
        said = "search: it has taken 60 s in all sessions, more than its time budget; a longer --time-budget goes on"
        assert (said in capsys.readouterr().err) is not is_launched
    written = look_at_run(folder).written
    assert written is not None
    assert written.search is not None
    assert written.search.counts["COMPLETE"] == 1
