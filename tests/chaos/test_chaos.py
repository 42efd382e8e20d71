"""`doctor --chaos` for real: the quick faults pass, and a run that is not as the one left alone is found out."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raysweep.atomic_files import CHECKSUM, write_json_lines
from raysweep.chaos.check import compare_runs
from raysweep.chaos.nodes import open_own_cluster
from raysweep.file_guard import read_json_lines
from raysweep.run_folder import RunFolder

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
QUICK = (("trial", "checkpoint"), ("disk",))  # side by side; `checkpoint` kills the driver, too
Doctor = tuple[subprocess.CompletedProcess[str], Path]
slow = pytest.mark.skipif(not os.environ.get("RAYSWEEP_TEST_KILLS"), reason="minutes: RAYSWEEP_TEST_KILLS=1 runs it")
IMPATIENT = """
from raysweep import storage_faults
storage_faults.PATIENCE_S = 3.0
"""
"""Has every process of a search wait seconds, and no half a minute, for a disk that stays full to the end."""
OTHERS = ("driver", "term", "interrupt", "worker", "ddp-trial", "random", "raylet", "gcs", "node", "journal", "history")


def run_doctor(
    storage: Path, *faults: str, address: str = "local", environment: Mapping[str, str] | None = None
) -> Doctor:
    """Runs the chaos test; returns its process and its folder."""
    words = ["-m", "platform.doctor", "--chaos", "--faults", ",".join(faults), "--storage", storage]
    done = subprocess.run(
        [sys.executable, *map(str, words), "--address", address],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    (folder,) = storage.iterdir()
    return done, folder


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> list[Doctor]:
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(IMPATIENT)
    path = os.pathsep.join(filter(None, (str(site), str(ROOT), os.environ.get("PYTHONPATH"))))
    storages = [tmp_path_factory.mktemp("results") for _ in QUICK]
    with ThreadPoolExecutor() as pool:
        tests = [
            pool.submit(run_doctor, storage, *faults, environment={"PYTHONPATH": path})
            for storage, faults in zip(storages, QUICK, strict=True)
        ]
    return [test.result() for test in tests]


@pytest.fixture(scope="module")
def alone(chaos: list[Doctor]) -> RunFolder:
    """The undisturbed run."""
    return RunFolder(chaos[0][1] / "alone")


def test_the_quick_faults_are_survived(chaos: list[Doctor]) -> None:
    for (done, folder), faults in zip(chaos, QUICK, strict=True):
        assert done.returncode == 0, done.stdout + done.stderr
        summary = done.stdout.splitlines()[-1]
        assert summary.endswith(f"; runs and logs: {folder}")
        assert "FAILED" not in summary
        told = [line for line in done.stderr.splitlines() if line.endswith((": passed", ": not possible here"))]
        assert [line.split(":")[0] for line in told] == list(faults)


@slow
def test_the_other_faults_are_survived(tmp_path: Path) -> None:
    done, _ = run_doctor(tmp_path, *OTHERS)
    assert done.returncode == 0, done.stdout + done.stderr


@slow
def test_on_a_cluster_only_the_searchs_own_processes_are_touched_and_a_node_where_it_is_named(tmp_path: Path) -> None:
    with open_own_cluster() as cluster:
        done, _ = run_doctor(
            tmp_path, "raylet", "trial", "node", address=cluster.address, environment=cluster.environment
        )
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = [line for line in done.stderr.splitlines() if line.startswith(("raylet: ", "trial: ", "node: "))]
    assert [line for line in verdicts if "search" not in line] == [
        "raylet: not possible here",
        "trial: passed",
        "node: passed",
    ]


def lose_an_epoch(run: RunFolder) -> None:
    path = run.trial(1).metrics
    write_json_lines(path, [*read_json_lines(path)[:-1]])


def repeat_an_epoch(run: RunFolder) -> None:
    path = run.trial(1).metrics
    rows = read_json_lines(path)
    write_json_lines(path, [*rows, rows[-1]])


def train_from_another_state(run: RunFolder) -> None:
    path = run.trial(0).metrics
    rows = read_json_lines(path)
    write_json_lines(path, [*rows[:-1], {**rows[-1], "train/loss": rows[-1]["train/loss"] * 1.01}])


def count_a_trial_twice(run: RunFolder) -> None:
    results = json.loads(run.results.read_text())
    del results[CHECKSUM]
    results["trials"].append({**results["trials"][-1], "number": len(results["trials"])})
    run.results.write_text(json.dumps(results))


def leave_a_checkpoint(run: RunFolder) -> None:
    run.trial(0).last.mkdir()


def lose_the_model(run: RunFolder) -> None:
    run.best.weights.unlink()


def open_the_test_split_again(run: RunFolder) -> None:
    rows = read_json_lines(run.openings)
    write_json_lines(run.openings, [*rows, *rows])


@pytest.fixture
def copy(alone: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the undisturbed run, which `compare_runs` finds equal."""
    copied = RunFolder(shutil.copytree(alone.path, tmp_path / "copy"))
    assert compare_runs(copied, alone) == []
    return copied


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose_an_epoch, "trial 1 has the epochs"),
        (repeat_an_epoch, "trial 1 has the epochs"),
        (train_from_another_state, "trial 0, epoch 10: train/loss is"),
        (count_a_trial_twice, "results.json has the trials"),
        (leave_a_checkpoint, "0000/last is left"),
        (lose_the_model, "best/ has no model"),
        (open_the_test_split_again, "the test split was opened 2 times"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_as_in_the_run_left_alone_is_found(
    alone: RunFolder,
    copy: RunFolder,
    spoil: Callable[[RunFolder], None],
    message: str,
) -> None:
    spoil(copy)
    problems = compare_runs(copy, alone)
    assert any(message in problem for problem in problems), problems
