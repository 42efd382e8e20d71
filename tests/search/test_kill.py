"""Kill -9 of drivers, trial processes and DDP workers at random moments: nothing is lost, repeated or counted twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from raysweep.atomic_files import read_json_lines
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.run_folder import RunFolder
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides
from raysweep.search.run import run_study
from raysweep.search.session.storage import open_storage
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not os.environ.get("RAYSWEEP_TEST_KILLS"), reason="minutes: RAYSWEEP_TEST_KILLS=1 runs it"),
]
ROOT = Path(__file__).resolve().parents[2]
NUM_TRIALS = 5
NUM_EPOCHS = 25
NUM_SESSIONS = 3

STUDY_FILE = """
from optuna.distributions import FloatDistribution
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

STUDY = Study(
    name="kills",
    task=ClassificationConfig(model="fashion_cnn"),
    data=DataConfig(source={source!r}, image_size=32),
    training=TrainingConfig(epochs={epochs}, batch_size=16, precision="fp32"),
    space={{"task.learning_rate": FloatDistribution(1e-4, 1e-3, log=True)}},
    objective=Objective(metric="val/loss", direction="minimize"),
    budget=Budget(trials={trials}),
)
"""

DRIVER = """
import sys
import raysweep.search.strategy.strategy
raysweep.search.strategy.strategy.MAX_RETRIES = 99  # chance may hit one trial more often than twice
from raysweep.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def images(make_image_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_folder(tmp_path_factory.mktemp("images"), 4, 40)


@contextmanager
def count_epochs(run: Path) -> Iterator[Callable[[], int]]:
    """Counts the checkpoints that are written: an epoch each, those that are trained again included."""
    seen: set[tuple[str, int]] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for path in run.glob("trials/*/metrics.jsonl"):
                try:
                    seen.add((path.parent.name, path.stat().st_mtime_ns))
                except FileNotFoundError:
                    continue
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: len(seen)
    finally:
        done.set()
        thread.join()


def find_processes(title: str, ancestor: int) -> list[int]:
    """Descendants of a process whose titles begin so."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            name = (folder / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
        if name.startswith(title):
            found.append(int(folder.name))

    def descends(pid: int) -> bool:
        return pid == ancestor or (pid in parents and descends(parents[pid]))

    return [pid for pid in found if descends(pid)]


def wait_for(condition: Callable[[], object], timeout_s: float = 200) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def kill_one(title: str, ancestor: int) -> bool:
    """Kills one of these processes; false when there is none."""
    processes = find_processes(title, ancestor)
    if processes:
        os.kill(random.choice(processes), signal.SIGKILL)
    return bool(processes)


def kill_soon(title: str, driver: subprocess.Popen[bytes]) -> bool:
    """Kills one of the driver's processes as soon as there is one; false when the driver has ended."""
    while driver.poll() is None:
        if kill_one(title, driver.pid):
            return True
        time.sleep(0.05)
    return False


def wait_for_epochs(more: int, trained: Callable[[], int], driver: subprocess.Popen[bytes]) -> None:
    """Until so many more epochs are trained, or the driver has ended."""
    enough = trained() + more
    wait_for(lambda: trained() >= enough or driver.poll() is not None)


def load_trials(run: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=open_storage(RunFolder(run), None)).trials


def check_books(run: Path, name: str, num_trials: int) -> int:
    """Study, histories and results.json tell one story; returns the epochs that they have in all."""
    record = json.loads((run / "results.json").read_text())
    trials = load_trials(run, name)
    assert [trial["number"] for trial in record["trials"]] == list(range(num_trials))
    assert [trial["state"] for trial in record["trials"]] == [trial.state.name for trial in trials]
    num_epochs = 0
    for trial in trials:
        history = read_json_lines(run / f"trials/{trial.number:04d}/metrics.jsonl")
        assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
        reported = {int(row["epoch"]): row["val/loss"] for row in history}
        assert trial.intermediate_values == {epoch: reported[epoch] for epoch in trial.intermediate_values}
        assert sorted(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
        num_epochs += len(history)
    return num_epochs


def run_session(arguments: list[str], log: Path, trained: Callable[[], int], kill_driver: bool) -> int:
    """Runs a driver, kills processes of its trials, and then the driver or none; returns how many were killed."""
    num_killed = 0
    with log.open("w") as stderr:
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], cwd=ROOT, stderr=stderr)
    try:
        for _ in range(3 if kill_driver else 2):
            wait_for_epochs(2, trained, driver)
            time.sleep(random.uniform(0, 0.5))
            num_killed += kill_soon("ray::ImplicitFunc", driver)
        if kill_driver:
            wait_for_epochs(1, trained, driver)
            time.sleep(random.uniform(0, 1))
            num_killed += driver.poll() is None
        else:
            assert driver.wait(200) == 0, log.read_text()
    finally:
        driver.kill()
        driver.wait()
    return num_killed


def list_finished(run: Path) -> dict[int, float]:
    """The trials that have ended, and when their histories were written."""
    return {
        trial.number: (run / f"trials/{trial.number:04d}/metrics.jsonl").stat().st_mtime
        for trial in load_trials(run, "kills")
        if trial.state.is_finished()
    }


def test_drivers_and_trial_processes_are_killed_and_the_study_ends_as_if_none_had_been(
    images: Path, tmp_path: Path
) -> None:
    """Two drivers die, each after three processes of its trials, and up to two processes of the last session's."""
    run = tmp_path / "kills"
    study_file = tmp_path / "kills.py"
    study_file.write_text(STUDY_FILE.format(source=str(images), epochs=NUM_EPOCHS, trials=NUM_TRIALS))
    arguments = ["tune", str(study_file), "--storage", str(tmp_path), "--address", "local", "--wandb", "disabled"]
    arguments += ["--sampler", "random", "--pruner", "none"]  # all trials are to run to their ends
    num_killed = 0
    finished: dict[int, Any] = {}
    with count_epochs(run) as trained:
        for session in range(NUM_SESSIONS):
            resume = ["--resume"] if session else []
            log = tmp_path / f"session{session}.txt"
            num_killed += run_session([*arguments, *resume], log, trained, kill_driver=session < NUM_SESSIONS - 1)
            assert {number: list_finished(run)[number] for number in finished} == finished, "was run again"
            finished = list_finished(run)
        work = trained()
    num_epochs = check_books(run, "kills", NUM_TRIALS)
    print(f"{num_killed} kills, {work} epochs trained for {num_epochs}")
    assert num_killed >= 2 * (3 + 1)
    assert {trial.state.name for trial in load_trials(run, "kills")} <= {"COMPLETE", "PRUNED"}
    assert work + 2 * num_killed <= 1.5 * num_epochs, "each kill may have cost an epoch of both trials"
    assert len(read_json_lines(run / "test" / "openings.jsonl")) == 1


def test_ddp_workers_are_killed_and_weak_ddp_trials_stop_and_resources_come_back(
    ray_local: None, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trial 0 loses a worker, trial 1 is stopped early, trial 2 loses its own process, which holds the workers."""
    original = Strategy.report
    monkeypatch.setattr(
        Strategy,
        "report",
        lambda self, number, epoch, value: original(self, number, epoch, value) or (number == 1 and epoch >= 1),
    )
    run = tmp_path / "ddp"
    killed: list[bool] = []

    def has_epochs(history: Path) -> bool:
        return len(read_json_lines(history)) > 1

    def kill() -> None:
        for number, title in ((0, "ray::RayTrainWorker"), (2, "ray::ImplicitFunc")):
            history = run / f"trials/{number:04d}/metrics.jsonl"
            wait_for(partial(has_epochs, history))
            killed.append(kill_one(title, os.getpid()))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    study = Study(
        name="ddp",
        task=ClassificationConfig(model="fashion_cnn"),
        data=DataConfig(source=str(images), image_size=32),
        training=TrainingConfig(epochs=12, batch_size=16, precision="fp32"),
        space={"task.learning_rate": FloatDistribution(1e-4, 1e-3, log=True)},
        objective=Objective(metric="val/loss", direction="minimize"),
        budget=Budget(trials=3),
    )
    with count_epochs(run) as trained:
        overrides = Overrides(pruner="none")
        options = RunOptions(storage=tmp_path, name="ddp", overrides=overrides, wandb="disabled", num_workers=2)
        results = run_study(study, options).results
        work = trained()
    assert killed == [True, True]
    assert [trial.state for trial in results.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert results.test.num_images == results.data.num_test
    num_epochs = check_books(run, "ddp", 3)
    assert num_epochs >= 2 * 12
    assert work + 2 <= 1.5 * num_epochs
    assert sorted(path.parent.name for path in run.glob("trials/*/best")) == ["0000", "0002"]
    assert not list(run.glob("trials/*/last"))
