"""The books between Ray Tune and the strategy, without a cluster: what ends a trial, and what makes it go on."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from raysweep import storage_faults
from raysweep.cluster.capacity import Request
from raysweep.cluster.lost_nodes import NodeWatch
from raysweep.cluster.waiting import PATIENCE_S, WaitingNotice
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.run_folder import SearchFolder
from raysweep.search import disk_watch
from raysweep.search.disk_watch import FLOOR_BYTES, DiskWatch
from raysweep.search.driver import SearchDriver
from raysweep.search.observer import Observer
from raysweep.search.session.storage import open_storage
from raysweep.search.strategy.strategy import MAX_RETRIES, create_strategy
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.report import EpochReport, TrialFailure
from raysweep.train.trial import TrialSpec
from raysweep.trial_result import Params, TrialResult


class Log(Observer):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, int]] = []

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        self.events.append(("started", number))

    def epoch_ended(self, number: int, metrics: Mapping[str, float]) -> None:
        self.events.append((metrics["epoch"], number))

    def trial_ended(self, result: TrialResult) -> None:
        self.events.append((result.state, result.number))


class Cluster(NodeWatch):
    """Nodes that are there and nodes that are not, by id."""

    def __init__(self) -> None:
        self.nodes = {"id": ("10.0.0.1", 1)}

    def list_living(self) -> dict[str, tuple[str, int]]:
        return dict(self.nodes)

    def find_lost(self, nodes: Mapping[str, tuple[str, int]]) -> list[str]:
        return [nodes[node][0] for node in nodes if node not in self.nodes]


@pytest.fixture
def make_driver(
    tmp_path: Path, save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any]
) -> Callable[..., Any]:
    data = save_prepared(tmp_path / "data", {"train": draw_squares(8, 0), "val": draw_squares(4, 1)}, "abcd")
    study = Study(
        name="small",
        task=ClassificationConfig(model="fashion_cnn"),
        data=DataConfig(image_size=28),
        training=TrainingConfig(epochs=3),
        space={"task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True)},
        objective=Objective(metric="val/accuracy"),
        budget=Budget(trials=2),
    )

    def make_spec(number: int, params: Params, num_reported: int) -> TrialSpec:
        folder = SearchFolder(tmp_path).trial(number)
        folder.path.mkdir(parents=True, exist_ok=True)
        return TrialSpec(
            number=number,
            config=study.trial_config(params, number),
            data=data,
            objective=study.objective,
            folder=folder,
            request=Request(),
            scratch=tmp_path,
            num_reported=num_reported,
        )

    def make(
        deadline: float | None = None, watch: NodeWatch | None = None, disk: DiskWatch | None = None
    ) -> tuple[SearchDriver, list[Any]]:
        log = Log()
        strategy = create_strategy(study, open_storage(SearchFolder(tmp_path), None), "small")
        return SearchDriver(
            strategy, make_spec, [log], deadline, watch or Cluster(), disk or DiskWatch(tmp_path)
        ), log.events

    return make


def epoch(number: int, finished: bool = False, value: float = 0.5) -> EpochReport:
    metrics = {"epoch": float(number), "val/accuracy": value}
    return EpochReport(metrics=metrics, value=value, best_value=value, best_epoch=number, finished=finished)


def is_told_to_stop(driver: SearchDriver, trial_id: str) -> bool:
    return driver._attempts[trial_id].spec.folder.stop_file.exists()


def test_a_trial_ends_when_ray_tune_is_done_with_it(make_driver: Callable[..., Any]) -> None:
    driver, events = make_driver()
    assert driver.start("a").number == 0
    assert [driver.on_report("a", epoch(1)), driver.on_report("a", epoch(2, finished=True))] == [False, True]
    assert not driver.on_report("a", epoch(3)), "what comes after the end does not count"
    assert events == [("started", 0), (1, 0), (2, 0)]
    assert not driver.is_idle
    driver.on_end("a")
    assert events[3:] == [("COMPLETE", 0)]
    assert driver.is_idle
    assert driver.strategy.results()[0].best_epoch == 2


def start_weak_trial(driver: SearchDriver) -> None:
    """Trial 0 is complete; trial 1 has been told to stop after its second epoch."""
    driver.start("a")
    driver.on_report("a", epoch(1, finished=True))
    driver.on_end("a")
    driver.strategy.optuna_study.pruner = optuna.pruners.ThresholdPruner(upper=0.9)
    driver.start("b")
    assert not driver.on_report("b", epoch(1))
    assert not is_told_to_stop(driver, "b")
    assert not driver.on_report("b", epoch(2, value=0.95)), "it ends by itself"
    assert is_told_to_stop(driver, "b")


def test_a_weak_trial_is_pruned_once_its_process_has_written_what_is_kept(make_driver: Callable[..., Any]) -> None:
    driver, events = make_driver()
    start_weak_trial(driver)
    assert not driver.on_report("b", epoch(3)), "what was under way does not count"
    assert states(driver) == ["COMPLETE", "RUNNING"]
    driver.on_end("b")
    assert states(driver) == ["COMPLETE", "PRUNED"]
    assert events[3:] == [("started", 1), (1, 1), (2, 1), ("PRUNED", 1)]
    assert driver.strategy.results()[1].best_epoch == 2


def test_a_weak_trial_that_dies_while_it_writes_goes_on_and_is_judged_again(make_driver: Callable[..., Any]) -> None:
    driver, events = make_driver()
    start_weak_trial(driver)
    driver.on_death("b", "killed")
    driver.on_end("b")
    spec = driver.start("c")
    assert (spec.number, spec.num_reported) == (1, 2)
    spec.folder.stop_file.unlink()  # as `launch` does
    driver.on_report("c", epoch(1))
    assert not is_told_to_stop(driver, "c")
    driver.on_report("c", epoch(2, value=0.95))
    assert is_told_to_stop(driver, "c")
    driver.on_end("c")
    assert events[3:] == [("started", 1), (1, 1), (2, 1), ("PRUNED", 1)]


def test_a_trial_whose_process_dies_goes_on_and_no_epoch_is_counted_twice(make_driver: Callable[..., Any]) -> None:
    driver, events = make_driver()
    driver.start("a")
    driver.on_report("a", epoch(1))
    driver.on_death("a", "killed")
    driver.on_end("a")
    spec = driver.start("b")
    assert (spec.number, spec.num_reported) == (0, 1)
    for number in (1, 2):
        driver.on_report("b", epoch(number))
    driver.on_report("b", epoch(3, finished=True))
    driver.on_end("b")
    assert events == [("started", 0), (1, 0), (2, 0), (3, 0), ("COMPLETE", 0)]


def test_it_fails_when_it_dies_too_often_and_at_once_by_an_exception(make_driver: Callable[..., Any]) -> None:
    driver, events = make_driver()
    for attempt in range(MAX_RETRIES + 1):
        assert driver.start(f"a{attempt}").number == 0
        says = TrialFailure(error="AcceleratorError: CUDA error", died=True)
        assert not driver.on_report(f"a{attempt}", says), "Ray Tune would keep the process: it ends by itself"
        driver.on_death(f"a{attempt}", "ActorDiedError: Ray's words for it")
        driver.on_end(f"a{attempt}")
    assert driver.start("b").number == 1
    driver.on_report("b", TrialFailure(error="train/loss is nan", died=False))
    driver.on_end("b")
    assert driver.start("c") is None
    assert events == [("started", 0), ("FAIL", 0), ("started", 1), ("FAIL", 1)]
    assert [result.error for result in driver.strategy.results()] == [
        f"its process died {MAX_RETRIES + 1} times, at last: AcceleratorError: CUDA error",
        "train/loss is nan",
    ]


def test_a_lost_node_is_no_failure_of_its_trials(
    make_driver: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster()
    driver, events = make_driver(watch=cluster)
    for attempt in range(MAX_RETRIES + 2):
        cluster.nodes["other"] = ("10.0.0.2", 1)
        assert driver.start(f"a{attempt}").number == 0
        del cluster.nodes["other"]
        driver.on_death(f"a{attempt}", "ActorDiedError: its node died")
        driver.on_end(f"a{attempt}")
    driver.start("b")
    driver.on_death("b", "ActorDiedError: killed")
    driver.on_end("b")
    driver.start("c")
    driver.on_report("c", epoch(1, finished=True))
    driver.on_end("c")
    (result,) = driver.strategy.results()
    assert (result.state, result.node_losses, result.retries) == ("COMPLETE", MAX_RETRIES + 2, 1)
    assert events == [("started", 0), (1, 0), ("COMPLETE", 0)]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "trial 0: node 10.0.0.2 was lost; it goes on from its last checkpoint"
    assert told[-1] == "trial 0: its process died (ActorDiedError: killed); it goes on from its last checkpoint"


def test_a_cluster_too_small_for_a_trial_is_waited_for_and_stderr_says_so_every_half_minute() -> None:
    notice = WaitingNotice(Request(num_workers=2, cpus_per_worker=1))
    assert notice.look(2, 2, now=0.0) is None
    assert notice.look(1, 1, now=10.0) is None, "a node may come at any moment"
    said = notice.look(1, 1, now=10.0 + PATIENCE_S)
    assert said is not None
    assert "the cluster's 1 node(s) have room for 1;" in said
    assert notice.look(1, 1, now=50.0) is None
    said = notice.look(1, 1, now=60.0)
    assert said is not None
    assert said.startswith("waiting for nodes, for 50 s by now")
    assert notice.look(2, 2, now=70.0) == "the search goes on"
    assert notice.look(2, 2, now=80.0) is None
    assert notice.look(0, 0, now=90.0) is None, "patience begins anew"


def test_room_that_others_have_taken_is_waited_for_too() -> None:
    notice = WaitingNotice(Request())
    assert notice.look(4, 1, now=0.0, idle=True) is None
    said = notice.look(4, 1, now=PATIENCE_S, idle=True)
    assert said is not None
    assert "room that others have taken, or for processes to start" in said
    assert notice.look(4, 1, now=PATIENCE_S + 1) == "the search goes on"


def test_after_the_deadline_only_what_is_under_way_goes_on(make_driver: Callable[..., Any]) -> None:
    driver, _ = make_driver(deadline=time.monotonic())
    driver.start("a")
    assert driver.start("b") is None
    driver.on_end("a")
    assert driver.start("c").number == 0


def test_a_trial_that_had_finished_when_the_driver_died_is_told_from_its_history(
    make_driver: Callable[..., Any],
) -> None:
    driver, _ = make_driver()
    driver.start("a")
    driver.on_report("a", epoch(1))
    driver, events = make_driver()  # epochs 2 and 3 never arrived; the trial reports them again
    assert driver.start("b").num_reported == 1
    driver.on_report("b", epoch(2))
    assert driver.on_report("b", epoch(3, finished=True))
    driver.on_end("b")
    assert events == [("started", 0), (2, 0), (3, 0), ("COMPLETE", 0)]


# storage that is at fault


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_faults, "PATIENCE_S", 0.0)
    monkeypatch.setattr(storage_faults, "_outage_began", None)


FULL = TrialFailure(error="no space for x", died=False, of_storage=True)


def states(driver: SearchDriver) -> list[str]:
    return [trial.state.name for trial in driver.strategy.optuna_study.trials]


def test_a_full_disk_is_no_failure_of_its_trials_and_the_others_go_on_to_their_ends(
    make_driver: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    driver, events = make_driver()
    driver.start("a")
    driver.start("b")
    driver.on_report("a", epoch(1))
    assert driver.on_report("a", FULL)
    driver.on_end("a")
    assert driver.on_report("b", epoch(1, finished=True))
    driver.on_end("b")
    assert driver.start("c") is None
    assert driver.is_idle
    assert not driver.is_waiting
    assert str(driver.fault) == "no space for x"
    assert events == [("started", 0), ("started", 1), (1, 0), (1, 1), ("COMPLETE", 1)]
    assert states(driver) == ["RUNNING", "COMPLETE"]
    assert capsys.readouterr().err.count("no space for x; no trial starts any more") == 1
    driver, events = make_driver()  # --resume, after space was freed
    assert driver.start("d").num_reported == 1
    driver.on_report("d", epoch(2, finished=True))
    driver.on_end("d")
    assert driver.start("e") is None
    assert driver.fault is None
    assert events == [("started", 0), (2, 0), ("COMPLETE", 0)]


def test_a_process_that_dies_while_the_storage_is_at_fault_has_not_failed(make_driver: Callable[..., Any]) -> None:
    driver, _ = make_driver()
    driver.start("a")
    driver.start("b")
    driver.on_report("a", FULL)
    driver.on_death("b", "killed by SIGBUS")
    driver.on_end("b")
    driver.on_end("a")
    assert states(driver) == ["RUNNING", "RUNNING"]
    assert all(set(trial.user_attrs) <= {"proposal"} for trial in driver.strategy.optuna_study.trials), "no retry"


@pytest.mark.parametrize("moment", ["start", "epoch", "end", "failure", "death", "prune"])
def test_books_that_cannot_be_written_leave_their_trial_as_it_is(
    make_driver: Callable[..., Any],
    limit_files: Callable[[int], Any],
    tmp_path: Path,
    no_patience: None,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The journal takes no line more: a limit on the size of files, which the system enforces."""
    driver, events = make_driver()
    journal = SearchFolder(tmp_path).journal
    driver.start("a")
    assert driver.start("b").number == 1
    driver.on_report("b", epoch(1))
    monkeypatch.setattr(driver.strategy.optuna_study, "pruner", optuna.pruners.ThresholdPruner(upper=0.9))
    with limit_files(journal.stat().st_size + 30):
        match moment:
            case "start":
                driver.on_end("b")
            case "epoch":
                assert driver.on_report("b", epoch(2))
            case "end":
                assert driver.on_report("b", epoch(2, finished=True))
            case "failure":
                assert driver.on_report("b", TrialFailure(error="NaN", died=False))
            case "death":
                driver.on_death("b", "killed")
                driver.on_end("b")
            case "prune":
                assert driver.on_report("b", epoch(2, value=0.95))
        assert str(journal) in str(driver.fault)
        assert not driver.on_report("b", epoch(3)), "what comes after is not counted: no epoch is left out"
        assert driver.start("c") is None
    if moment not in ("start", "death"):
        driver.on_end("b")
    driver.on_end("a")
    assert driver.start("d") is None
    assert driver.is_idle
    assert not [event for event in events if event[0] in ("COMPLETE", "FAIL", "PRUNED")]
    assert states(driver) == ["RUNNING", "RUNNING"]
    driver, _ = make_driver()
    assert [driver.start(name).num_reported for name in "ef"] == [0, 1]


def test_a_run_whose_folder_is_gone_starts_no_trial_and_makes_no_new_folder(
    make_driver: Callable[..., Any], tmp_path: Path, no_patience: None
) -> None:
    driver, _ = make_driver()
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    try:
        assert driver.start("a") is None
        assert "must be in reach" in str(driver.fault)
        assert not tmp_path.exists()
    finally:
        tmp_path.with_name("elsewhere").rename(tmp_path)


class Disk(DiskWatch):
    """A disk that is as full as a test says."""

    free = 10**9

    def look(self, running: Any) -> None:
        self._next = 0.0
        super().look(running)

    def count_free(self) -> int:
        return self.free


def write_checkpoints(spec: TrialSpec, size: int) -> None:
    for path in (spec.folder.checkpoint, spec.folder.previous_checkpoint, spec.folder.weights):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)


def test_no_trial_starts_without_room_for_its_checkpoints(
    make_driver: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    driver, _ = make_driver(disk=disk)
    write_checkpoints(driver.start("a"), 1000)
    disk.free = FLOOR_BYTES + 1000 + 3999  # a's next model, and all of another trial, less a byte
    assert driver.start("b") is None
    assert driver.is_waiting
    assert driver.start("b") is None
    said = capsys.readouterr().err
    assert said.count("got 8 MB free; free space; until then no trial starts") == 1
    disk.free += 1
    assert driver.start("b").number == 1
    assert "trials start" in capsys.readouterr().err
    disk.free = FLOOR_BYTES
    driver.look_at_disk()
    assert "until then no trial starts" in capsys.readouterr().err, "said though no trial is to start"
    driver.on_report("a", epoch(1, finished=True))
    driver.on_end("a")
    driver.on_death("b", "killed")
    driver.on_end("b")
    assert driver.start("c") is None
    assert driver.fault is None, "it waits a little"
    monkeypatch.setattr(disk_watch, "PATIENCE_S", 0.0)
    assert driver.start("c") is None
    assert "must have room for the checkpoints to come" in str(driver.fault)
    assert not driver.is_waiting


def test_a_search_that_is_done_waits_for_no_space(make_driver: Callable[..., Any], tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    driver, _ = make_driver(disk=disk)
    for name in "ab":
        driver.start(name)
        driver.on_report(name, epoch(1, finished=True))
        driver.on_end(name)
    disk.free = 0
    assert driver.start("c") is None
    assert not driver.is_waiting
    assert driver.fault is None


def test_a_trial_that_lost_its_last_epoch_is_not_judged_by_the_one_before(make_driver: Callable[..., Any]) -> None:
    driver, _ = make_driver()
    driver.start("a")
    driver.on_report("a", epoch(1, finished=True))
    driver.on_end("a")
    driver.start("b")
    driver.on_report("b", epoch(1, value=0.95))
    driver.on_report("b", epoch(2))
    driver.strategy.optuna_study.pruner = optuna.pruners.ThresholdPruner(upper=0.9)
    driver.on_death("b", "killed")
    driver.on_end("b")
    driver.start("c")
    assert not driver.on_report("c", epoch(1, value=0.95))
    assert not driver.on_report("c", epoch(2))
    assert not is_told_to_stop(driver, "c")
    assert not driver.on_report("c", epoch(3, value=0.95))
    assert is_told_to_stop(driver, "c")


def test_what_was_damaged_is_said_by_the_driver(
    make_driver: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    driver, _ = make_driver()
    driver.start("a")
    driver.on_report("a", dataclasses.replace(epoch(1), notice="damaged: last/checkpoint.safetensors"))
    driver.on_report("a", epoch(2))
    assert capsys.readouterr().err == "trial 0: damaged: last/checkpoint.safetensors\n"
