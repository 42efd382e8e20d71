"""A disk that fills up while two trials run: none fails, none loses anything, and going on ends it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from raysweep.file_guard import read_json_lines
from raysweep.run_folder import RunFolder
from raysweep.search.session.storage import open_storage

ROOT = Path(__file__).resolve().parents[2]
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
NUM_TRIALS, NUM_EPOCHS = 2, 6


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = [*OWN_MOUNTS, "mount -t tmpfs -o size=1m none /tmp"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not os.environ.get("RAYSWEEP_TEST_KILLS"), reason="minutes: RAYSWEEP_TEST_KILLS=1 runs it"),
    pytest.mark.skipif(not can_mount(), reason="this system lets no user mount a small disk (unshare --user --mount)"),
]

STUDY_FILE = """
from optuna.distributions import FloatDistribution
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

STUDY = Study(
    name="full",
    task=ClassificationConfig(model="fashion_cnn"),
    data=DataConfig(source={source!r}, image_size=32),
    training=TrainingConfig(epochs={epochs}, batch_size=16, precision="fp32", checkpoint_period_s=0.0),
    space={{"task.learning_rate": FloatDistribution(1e-4, 1e-3, log=True)}},
    objective=Objective(metric="val/loss", direction="minimize"),
    budget=Budget(trials={trials}),
)
"""

SCRIPT = """
mount -t tmpfs -o size=150m none {disk} || exit 99
( until [ -s {disk}/full/trials/0000/metrics.jsonl ] && [ -s {disk}/full/trials/0001/metrics.jsonl ]; do sleep 0.1; done
  dd if=/dev/zero of={disk}/filler bs=1M ) 2> /dev/null &
{command} 2> {log}/first.txt; echo $? > {log}/first.rc
cp -r {disk}/full {log}/stopped
rm {disk}/filler
{command} --resume 2> {log}/second.txt; echo $? > {log}/second.rc
cp -r {disk}/full {log}/finished
"""


def list_states(run: Path) -> list[str]:
    trials = optuna.load_study(study_name="full", storage=open_storage(RunFolder(run), None)).trials
    return [trial.state.name for trial in trials]


def test_a_disk_fills_up_and_is_freed(make_image_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = make_image_folder(tmp_path / "images", 4, 40)
    (tmp_path / "study.py").write_text(STUDY_FILE.format(source=str(source), epochs=NUM_EPOCHS, trials=NUM_TRIALS))
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    log.mkdir()
    command = [sys.executable, "-m", "platform.tune", str(tmp_path / "study.py"), "--storage", str(disk)]
    command += ["--address", "local", "--wandb", "disabled", "--sampler", "random", "--pruner", "none"]
    script = SCRIPT.format(disk=disk, log=log, command=shlex.join(command))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*OWN_MOUNTS, script], check=True, cwd=ROOT, env=environment, timeout=600)

    said = (log / "first.txt").read_text().splitlines()
    assert (log / "first.rc").read_text() == "1\n", said
    assert [line for line in said if line.startswith("error: ")] == said[-1:]
    assert "free space, then go on with --resume" in said[-1]
    assert "Traceback" not in "".join(said)
    assert list_states(log / "stopped") == ["RUNNING"] * NUM_TRIALS
    stopped = RunFolder(log / "stopped")
    for number in range(NUM_TRIALS):
        assert stopped.trial(number).checkpoint.is_file()
        assert stopped.trial(number).weights.is_file()
        assert not stopped.trial(number).error.exists()

    assert (log / "second.rc").read_text() == "0\n", (log / "second.txt").read_text()
    finished = RunFolder(log / "finished")
    assert list_states(log / "finished") == ["COMPLETE"] * NUM_TRIALS
    assert len(json.loads(finished.results.read_text())["trials"]) == NUM_TRIALS
    for number in range(NUM_TRIALS):
        before = read_json_lines(stopped.trial(number).metrics)
        after = read_json_lines(finished.trial(number).metrics)
        assert [row["epoch"] for row in after] == list(range(1, NUM_EPOCHS + 1))
        assert after[: len(before)] == before, "no epoch is trained again"
        assert not finished.trial(number).last.exists()
