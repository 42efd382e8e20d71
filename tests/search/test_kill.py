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
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution

from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.files import read_json_lines
from raysweep.search.options import RunOptions
from raysweep.search.run import run_study
from raysweep.search.storage import open_storage
from raysweep.search.strategy import Strategy
from raysweep.study import Study
from raysweep.tasks.classification import ClassificationConfig

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
NUM_TRIALS = 5
NUM_EPOCHS = 14

STUDY_FILE = """
from optuna.distributions import FloatDistribution
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study
from raysweep.tasks.classification import ClassificationConfig

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
import raysweep.search.strategy
raysweep.search.strategy.MAX_RETRIES = 99  # chance may hit one trial more often than twice
from raysweep.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def images(make_image_folder, tmp_path_factory) -> Path:
    return make_image_folder(tmp_path_factory.mktemp("images"), 4, 100)


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


def wait_for(condition: Callable[[], object], timeout_s: float = 120) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)
