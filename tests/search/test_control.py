"""A running search obeys what is said to it through files in its folder, or says why not."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysweep.cluster.capacity import Request
from raysweep.cluster.lost_nodes import NodeWatch
from raysweep.commands.control import VERBS
from raysweep.config import Budget
from raysweep.data.images import PreparedData
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder
from raysweep.search import control_files
from raysweep.search.control import LATE, Control, parse_point
from raysweep.search.control_files import Command, CommandBox, CommandError, send_command
from raysweep.search.disk_watch import DiskWatch
from raysweep.search.driver import SearchDriver
from raysweep.search.progress import SearchProgress
from raysweep.search.session.lock import hold_lock
from raysweep.search.session.storage import open_storage
from raysweep.search.status import StatusFile
from raysweep.search.strategy.strategy import create_strategy
from raysweep.study import Study
from raysweep.train.report import EpochReport, Order, read_order
from raysweep.train.trial import TrialSpec
from raysweep.trial_result import Params


class Here(NodeWatch):
    """A cluster that loses no node."""

    def __init__(self) -> None:
        pass

    def list_living(self) -> dict[str, tuple[str, int]]:
        return {}

    def find_lost(self, nodes: Any) -> list[str]:
        return []


class Search:
    """A search without Ray: trials begin and report when a test says so."""

    status: StatusFile

    def __init__(self, folder: RunFolder, study: Study, data: PreparedData) -> None:
        self.folder, self.study, self.data = folder, study, data
        self.saved: list[int] = []
        progress = SearchProgress(study.objectives, study.budget.trials, None, [])
        self.control = Control(CommandBox(folder), progress, self.saved.append)
        self.progress = progress

        def make_spec(number: int, params: Params, num_reported: int) -> TrialSpec:
            folder.trial(number).path.mkdir(parents=True, exist_ok=True)
            return TrialSpec(
                number=number,
                config=study.trial_config(params, number),
                data=data,
                objective=study.objective,
                folder=folder.trial(number),
                request=Request(),
                scratch=folder.path,
            )

        strategy = create_strategy(study, open_storage(folder, None), study.name, sampler="random", pruner="none")
        disk = DiskWatch(folder.path)
        self.driver = SearchDriver(strategy, make_spec, [progress], None, Here(), disk, self.control)

    def start(self) -> int | None:
        """Starts a trial, as Ray Tune does for each worker that is free."""
        count = self.driver.strategy.count_begun()
        spec = self.driver.start(str(count))
        return None if spec is None else spec.number

    def report(self, number: int, epoch: int) -> Order:
        """Reports an epoch of a trial, and reads what it is to do."""
        metrics = {"epoch": float(epoch), "val/accuracy": 0.5}
        self.driver.on_report(
            str(number), EpochReport(metrics=metrics, value=0.5, best_value=0.5, best_epoch=1, finished=False)
        )
        return read_order(self.folder.trial(number))

    def say(self, verb: str, *arguments: str) -> str:
        """Sends a command as another process does, while the driver looks now and then; returns the answer."""
        answers: list[str | Exception] = []

        def send() -> None:
            try:
                answers.append(send_command(self.folder, Command(verb=verb, arguments=arguments), 10.0))
            except Exception as error:
                answers.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        while sender.is_alive():
            self.control.look(self.driver)
            time.sleep(0.01)
        (answer,) = answers
        if isinstance(answer, Exception):
            raise answer
        return answer

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.driver.strategy.optuna_study.trials]


@pytest.fixture
def search(
    tmp_path: Path,
    make_study: Callable[..., Study],
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
) -> Iterator[Search]:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    data = save_prepared(tmp_path / "data", {"train": draw_squares(8, 0), "val": draw_squares(4, 1)}, "abcd")
    with hold_lock(folder), StatusFile(folder) as status:
        search = Search(folder, make_study(budget=Budget(trials=3)), data)
        search.status = status
        status.enter("search", search.progress)
        yield search


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_files, "PAUSE_S", 0.01)


def test_a_trial_ends_with_the_epoch_after_it_is_said(search: Search) -> None:
    search.start(), search.start()
    assert search.report(1, 1) is Order.GO_ON
    assert search.say("stop-trial", "1") == "trial 1 ends with its epoch, as one that was stopped early"
    assert search.report(0, 1) is Order.GO_ON
    assert search.report(1, 2) is Order.END
    search.driver.on_end("1")
    assert search.states() == ["RUNNING", "PRUNED"]
    (result,) = search.driver.strategy.results()
    assert (result.value, result.error) == (0.5, "stopped by the command `control`")


def test_a_point_is_tried_next_and_kept_in_the_optuna_study(search: Search) -> None:
    search.start()
    assert "is tried as trial 1" in search.say("add-point", "task.optimizer=sgd", "task.momentum=0.7")
    assert search.start() == 1
    point = search.driver.strategy.optuna_study.trials[1].params
    assert (point["task.optimizer"], point["task.momentum"]) == ("sgd", 0.7)
    assert point["training.epochs"] == 3, "the rest is the baseline's"


def test_a_point_beyond_the_budget_waits_for_more_trials(search: Search) -> None:
    while search.start() is not None:
        pass
    assert "`trials 4` gives it room" in search.say("add-point", "task.learning_rate=0.002")
    assert search.start() is None
    assert search.say("trials", "4") == "the search has 4 trials in all, of which 3 have begun"
    assert search.start() == 3
    assert search.driver.strategy.optuna_study.trials[3].params["task.learning_rate"] == 0.002
    assert search.saved == [4]
    assert search.progress.num_trials == 4


def test_trials_beyond_the_time_budget_are_not_promised(search: Search) -> None:
    assert search.start() == 0
    search.driver.deadline = time.monotonic() - 1
    for said in (("trials", "9"), ("add-point", "task.learning_rate=0.001")):
        assert "the time budget is used up" in search.say(*said)
    search.say("pause")
    assert search.say("resume") == "trials start again" + LATE
    assert search.say("trials", "1").endswith("have begun"), "nothing is promised"


def test_a_paused_search_starts_nothing_and_does_not_end(search: Search) -> None:
    search.start()
    assert search.say("pause") == "nothing starts until `resume`; 1 running go on"
    assert search.start() is None
    assert search.driver.is_waiting
    assert "paused" in search.progress.take_snapshot().describe_counts()
    search.say("resume")
    assert search.start() == 1


def test_a_paused_search_goes_on_to_nothing_else_though_no_trial_is_left(search: Search) -> None:
    while search.start() is not None:
        pass
    search.say("pause")
    assert search.driver.is_waiting
    search.driver.deadline = time.monotonic() - 1
    assert search.driver.is_waiting
    search.say("resume")
    assert not search.driver.is_waiting


def test_a_search_that_is_to_stop_leaves_its_trials_to_be_gone_on_with(
    search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    search.start(), search.start()
    assert "the trials that run, 2, end with their epoch" in search.say("stop")
    search.driver.look()
    assert "2 running end with their epoch" in capsys.readouterr().err
    assert search.start() is None
    assert [search.report(number, 1) for number in (0, 1)] == [Order.PAUSE, Order.PAUSE]
    for trial_id in ("0", "1"):
        search.driver.on_end(trial_id)
    assert search.states() == ["RUNNING", "RUNNING"]
    assert search.driver.is_idle
    assert not search.driver.is_waiting


def test_what_a_trial_took_before_it_was_left_counts(search: Search) -> None:
    search.start()
    search.driver._began[0] -= 100.0
    search.say("stop")
    assert search.report(0, 1) == Order.PAUSE
    search.driver.on_end("0")
    again = Search(search.folder, search.study, search.data)
    again.driver.start("0")
    again.driver.on_report(
        "0", EpochReport(metrics={"epoch": 2.0}, value=0.5, best_value=0.5, best_epoch=1, finished=True)
    )
    again.driver.on_end("0")
    (result,) = again.driver.strategy.results()
    assert 100.0 <= result.duration_s < 160.0


@pytest.mark.parametrize(
    ("verb", "arguments", "reason"),
    [
        ("stop-trial", ["7"], "no trial 7 runs; running: 0, 1"),
        ("stop-trial", ["0"], "the baseline, over which the lift is stated"),
        ("stop-trial", ["one"], "a number must follow, got one"),
        ("stop-trial", [], "a number must follow, got nothing"),
        ("trials", ["1"], "must be at least 2, as many have begun, got 1"),
        ("trials", ["9000000"], "at most 1,000,000, got 9000000"),
        ("trials", ["2", "3"], "a number must follow, got 2 3"),
        ("add-point", [], "takes KEY=VALUE, got nothing; keys: task.learning_rate"),
        ("add-point", ["task.learning_rate"], "takes KEY=VALUE, got 'task.learning_rate'"),
        ("add-point", ["task.learning_rat=1"], "did you mean 'task.learning_rate'"),
        ("add-point", ["task.learning_rate=1"], r"task\.learning_rate=1\.0 is not in FloatDistribution"),
        ("add-point", ["task.momentum=0.7"], "which has no task.momentum there"),
        ("add-point", ["training.epochs=x"], "training.epochs=x: "),
        ("resume", [], "is not paused"),
        ("frobnicate", [], "unknown command 'frobnicate'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    search: Search, verb: str, arguments: list[str], reason: str
) -> None:
    search.start(), search.start()
    with pytest.raises(UsageError, match=reason):
        search.say(verb, *arguments)
    assert search.states() == ["RUNNING", "RUNNING"]


def test_finalists_are_a_fixed_set(search: Search) -> None:
    search.start(), search.start()
    search.control.save_num_trials = None
    for verb, argument in (("stop-trial", "1"), ("trials", "9"), ("add-point", "task.learning_rate=0.002")):
        with pytest.raises(UsageError, match=f"{verb} is for the search"):
            search.say(verb, argument)
    search.say("pause")


def test_an_error_of_ours_is_an_answer_and_ends_no_search(search: Search) -> None:
    def fail(number: int) -> None:
        raise OSError("no such disk")

    search.control.save_num_trials = fail
    with pytest.raises(UsageError, match="it failed: OSError: no such disk"):
        search.say("trials", "9")
    assert search.progress.num_trials == 3


def test_a_command_that_is_damaged_or_too_late_is_refused(search: Search) -> None:
    search.folder.commands.mkdir()
    search.folder.command("1").write_text('{"verb": 3}')
    search.control.look(search.driver)
    assert "a command to a running search" in search.folder.answer("1").read_text()
    search.folder.command("2").write_text('{"verb": "pause"}')
    search.control.close()
    assert "the search has ended" in search.folder.answer("2").read_text()
    assert not search.driver.is_paused
    assert search.folder.list_commands() == []
    CommandBox(search.folder)
    assert not search.folder.commands.exists(), "the next session begins with none"


def test_a_search_that_does_not_look_is_said(search: Search) -> None:
    with pytest.raises(CommandError, match="has ended, or has not looked"):
        send_command(search.folder, Command(verb="pause"), patience_s=0.05)
    assert search.folder.list_commands() == []


def test_a_command_that_comes_as_the_stage_ends_waits_for_no_answer(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    box_is_closed = control_files._check_running

    def end_stage(folder: RunFolder) -> None:
        box_is_closed(folder)
        search.status.enter("final evaluation")

    monkeypatch.setattr(control_files, "_check_running", end_stage)
    began = time.monotonic()
    with pytest.raises(CommandError, match="has ended"):
        send_command(search.folder, Command(verb="pause"))
    assert time.monotonic() - began < 10
    assert search.folder.list_commands() == []


def test_no_search_is_told_anything_where_none_runs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(UsageError, match="not the folder of a run"):
        send_command(folder, Command(verb="pause"))
    folder.study.write_text("{}")
    with pytest.raises(UsageError, match=r"a search must run in .* but the run is interrupted"):
        send_command(folder, Command(verb="pause"))
    with hold_lock(folder), StatusFile(folder) as status:
        status.enter("final evaluation")
        with pytest.raises(UsageError, match="is at its final evaluation"):
            send_command(folder, Command(verb="pause"))


def test_the_command_line_knows_what_a_search_obeys(search: Search) -> None:
    with pytest.raises(UsageError, match=f"Known: {', '.join(sorted(VERBS))}"):
        search.say("frobnicate")


def test_a_point_is_the_baseline_with_some_values_changed(study: Study) -> None:
    assert parse_point(study, ["task.learning_rate=0.002"]) == {**study.baseline, "task.learning_rate": 0.002}
