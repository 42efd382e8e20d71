"""Observers of somebody else's: by a file's path and by an installed package's name, and what their errors cost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.errors import UsageError
from raysweep.run_folder import SearchFolder
from raysweep.search.observer import Observer, build_observers, load_observers
from raysweep.study import Study
from raysweep.trial_result import TrialResult

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
from raysweep.search.observer import Observer


class Diary(Observer):
    def __init__(self, folder, study):
        self.path = folder.path / "diary.txt"
        self.write(f"study {study.name}")

    def write(self, line):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            print(line, file=file)

    def trial_started(self, number, config, params):
        self.write(f"start {number} {config['training']['epochs']} {sorted(params)}")

    def trial_ended(self, result):
        self.write(f"end {result.number} {result.state}")


class Moody(Diary):
    def epoch_ended(self, number, metrics):
        self.write(f"epoch {number} {metrics['epoch']:.0f}")
        raise OSError("the network is down")

    def trial_ended(self, result):
        super().trial_ended(result)
        raise ValueError("not again")


def refuse(folder, study):
    raise RuntimeError("no licence")
"""
RESULT = TrialResult(number=0, state="COMPLETE", value=0.5, best_epoch=1, params={}, duration_s=1.0)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(MODULE)
    return path


def follow(observer: Observer) -> None:
    """Tells an observer of a trial of two epochs."""
    observer.trial_started(0, {"training": {"epochs": 2}}, {"task.dropout": 0.5})
    for epoch in (1.0, 2.0):
        observer.epoch_ended(0, {"epoch": epoch})
    observer.trial_ended(RESULT)


def test_one_in_a_file_is_told_of_what_it_wants_to_know(
    module: Path, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (observer,) = build_observers(load_observers([f"{module}:Diary"]), SearchFolder(tmp_path), study)
    follow(observer)
    told = (tmp_path / "diary.txt").read_text().splitlines()
    assert told == ["study small", "start 0 2 ['task.dropout']", "end 0 COMPLETE"]
    assert capsys.readouterr().err == ""


def test_errors_end_nothing_and_are_said_once_of_each(
    module: Path, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{module}:{name}" for name in ("Moody", "refuse", "Diary")]
    for observer in build_observers(load_observers(names), SearchFolder(tmp_path), study):
        follow(observer)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith(f"observer {module}:refuse failed in its construction: RuntimeError: no licence; ")
    assert told[1].startswith(
        f"observer {module}:Moody failed in epoch_ended: OSError: the network is down; the search "
    )
    diary = (tmp_path / "diary.txt").read_text().splitlines()
    assert [line for line in diary if line.startswith(("epoch", "end"))] == [
        "epoch 0 1",
        "epoch 0 2",
        "end 0 COMPLETE",
        "end 0 COMPLETE",
    ], "it is told of everything after an error, too, and so are the others"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("diry", "unknown observer 'diry'"),
        ("{module}:Dairy", "has no 'Dairy'; it has: Diary, Moody, Observer, refuse"),
        ("no/such.py:Diary", "no file .*no/such.py"),
        ("no_such_package:Diary", "cannot be imported"),
    ],
)
def test_one_that_cannot_be_had_is_wrong_usage(module: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_observers([name.format(module=module)])


STUDY = """
from optuna.distributions import FloatDistribution
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

STUDY = Study(
    name="small",
    task=ClassificationConfig(model="fashion_cnn"),
    data=DataConfig(source={source!r}, image_size=32),
    training=TrainingConfig(epochs=1, batch_size=16, precision="fp32"),
    space={{"task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}},
    objective=Objective(metric="val/accuracy"),
    budget=Budget(trials=2),
)
"""
DRIVER = """
import sys
from pathlib import Path
from raysweep.catalogue import load_study
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides
from raysweep.search.run import run_study

study, storage, own = sys.argv[1:]
options = RunOptions(
    storage=Path(storage), name="run", address="local", wandb="disabled", observers=("diary", own + ":Moody"),
    overrides=Overrides(finalists=1, seeds=2),
)
run_study(load_study(study), options)
"""


@pytest.mark.ray
def test_a_search_with_an_installed_one_and_one_that_fails(
    make_image_folder: Callable[..., Path], tmp_path: Path, module: Path
) -> None:
    """In a process of its own: a running one has looked already at what is installed."""
    site = tmp_path / "site"
    metadata = site / "elsewhere-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "elsewhere.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[raysweep.observers]\ndiary = elsewhere:Diary\n")
    source = make_image_folder(tmp_path / "images", 2, 20)
    (tmp_path / "small.py").write_text(STUDY.format(source=str(source)))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "small.py"), str(tmp_path / "results"), str(module)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "results" / "run"
    results = json.loads((run / "results.json").read_text())
    assert [trial["state"] for trial in results["trials"]] == ["COMPLETE", "COMPLETE"]
    for folder, num_trials in ((run, 2), (run / "finalists", 4)):
        diary = (folder / "diary.txt").read_text().splitlines()
        assert diary.count("study small") == 2
        assert sum(line.startswith("start ") for line in diary) == 2 * num_trials
        assert sum(line.startswith("epoch ") for line in diary) == num_trials, "the first one wants no epochs"
        assert sum(line.endswith(" COMPLETE") for line in diary) == 2 * num_trials
    assert done.stderr.count("failed in epoch_ended: OSError: the network is down; the search goes on") == 2
