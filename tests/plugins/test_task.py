"""A task from outside: by a file's path, in a study's own file, and by an installed package's name."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep.catalogue import load_study
from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.registry import load_object
from raysweep.run_folder import TrialFolder
from raysweep.train.loop import fit
from raysweep.trial_config import TrialConfig

ROOT = Path(__file__).resolve().parents[2]
TASK = Path(__file__).with_name("brightness.py")
LOSS = Objective(metric="val/loss", direction="minimize")
BY_PATH = """
from raysweep.registry import load_object
BrightnessConfig = load_object({path!r} + ":BrightnessConfig")
"""
STUDY = """
from optuna.distributions import FloatDistribution
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study

STUDY = Study(
    name="brightness",
    task=BrightnessConfig(),
    data=DataConfig(source={source!r}, image_size=28, channels=1, normalization="unit"),
    training=TrainingConfig(epochs=2, batch_size=8, precision="fp32"),
    space={{"task.learning_rate": FloatDistribution(1e-3, 1e-1, log=True)}},
    objective=Objective(metric="val/loss", direction="minimize"),
    budget=Budget(trials=2),
)
"""
READ_BACK = """
import pickle, sys
config = pickle.load(sys.stdin.buffer)
print(type(config.task).__name__, config.task.learning_rate, config.to_json()["task"]["kind"])
"""
TRAIN_BY_NAME = """
import json, sys
from pathlib import Path
from raysweep.config import Objective
from raysweep.trial_config import TrialConfig
from raysweep.data.images import PreparedData
from raysweep.train.loop import fit
config = TrialConfig.from_json(json.loads(sys.argv[1]))
objective = Objective(metric="val/loss", direction="minimize")
state = fit(config, PreparedData.load(Path(sys.argv[2])), objective, report=lambda report: None)
print(json.dumps([config.to_json(), [row["val/loss"] for row in state.history]]))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The task in a file that is no package's."""
    return Path(shutil.copy(TASK, tmp_path / "brightness.py"))


@pytest.fixture
def data(tmp_path: Path, save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any]) -> PreparedData:
    splits = {"train": draw_squares(64, 1), "val": draw_squares(24, 2)}
    return save_prepared(tmp_path / "data", splits, "abcd")


def make_config(file: Path, epochs: int = 4, **task: float) -> TrialConfig:
    return TrialConfig(
        task=load_object(f"{file}:BrightnessConfig")(**task),
        data=DataConfig(image_size=28, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=epochs, batch_size=8, precision="fp32"),
    )


def run_python(code: str, *arguments: str, packages: Path = ROOT, given: bytes = b"") -> str:
    """What a fresh process prints, which finds modules in the project and in `packages`."""
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=given,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)])},
        cwd=packages,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    return process.stdout.decode()


def test_it_learns_and_goes_on_from_its_checkpoint(file: Path, data: PreparedData, tmp_path: Path) -> None:
    whole = fit(make_config(file), data, LOSS, report=lambda report: None)
    assert whole.history[-1]["train/loss"] < 0.5 * whole.history[0]["train/loss"]
    for epochs in (2, 4):
        config = make_config(file, epochs=epochs)
        parts = fit(config, data, LOSS, report=lambda report: None, folder=TrialFolder(tmp_path / "trial"), resume=True)
    losses = [[(row["train/loss"], row["val/loss"]) for row in state.history] for state in (whole, parts)]
    assert losses[0] == losses[1]


def test_its_configuration_is_json_with_a_reference(file: Path) -> None:
    config = make_config(file, learning_rate=0.5)
    values = json.loads(json.dumps(config.to_json()))
    assert values["task"] == {"kind": f"{file}:BrightnessConfig", "learning_rate": 0.5}
    assert TrialConfig.from_json(values) == config


def test_its_configuration_travels_by_pickle_to_a_fresh_process(file: Path) -> None:
    text = run_python(READ_BACK, given=pickle.dumps(make_config(file, learning_rate=0.5)))
    assert text.split() == ["BrightnessConfig", "0.5", f"{file}:BrightnessConfig"]


@pytest.mark.parametrize("is_in_the_study", [False, True])
def test_a_study_names_it_by_path_or_defines_it(
    is_in_the_study: bool, file: Path, data: PreparedData, tmp_path: Path
) -> None:
    study_file = tmp_path / "study.py"
    head = TASK.read_text() if is_in_the_study else BY_PATH.format(path=str(file))
    study_file.write_text(head + STUDY.format(source="sample"))
    study = load_study(str(study_file))
    config = study.trial_config({"task.learning_rate": 0.02}, 1)
    place = study_file if is_in_the_study else file
    assert config.to_json()["task"]["kind"] == f"{place}:BrightnessConfig"
    state = fit(config, data, study.objective, report=lambda report: None)
    assert state.history[-1]["val/loss"] < state.history[0]["val/loss"]
    assert run_python(READ_BACK, given=pickle.dumps(config)).startswith("BrightnessConfig 0.02")


def test_a_study_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    study_file = tmp_path / "study.py"
    for trials in (2, 5):
        text = TASK.read_text() + STUDY.format(source="sample")
        study_file.write_text(text.replace("Budget(trials=2)", f"Budget(trials={trials})"))
        assert load_study(str(study_file)).budget.trials == trials


def test_an_installed_package_offers_it_by_name(file: Path, data: PreparedData, tmp_path: Path) -> None:
    """As pip leaves a distribution: a module and what says which entry points it has."""
    site = tmp_path / "site"
    metadata = site / "brightness-1.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(TASK, site)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[raysweep.tasks]\nbrightness = brightness:BrightnessConfig\n")
    (metadata / "RECORD").write_text("brightness.py,,\n")
    config = make_config(file, learning_rate=0.02)
    values = config.to_json()
    values["task"]["kind"] = "brightness"
    stored, losses = json.loads(run_python(TRAIN_BY_NAME, json.dumps(values), str(data.folder), packages=site))
    assert stored["task"] == {"kind": "brightness", "learning_rate": 0.02}
    expected = fit(config, data, LOSS, report=lambda report: None)
    assert losses == pytest.approx([row["val/loss"] for row in expected.history], rel=1e-5)


@pytest.mark.ray
def test_a_search_tunes_it(file: Path, tmp_path: Path, make_idx_folder: Callable[..., Path]) -> None:
    """From a study file to the test images: trials on Ray, the best model, its evaluation."""
    study_file = tmp_path / "study.py"
    images = make_idx_folder(tmp_path / "images", 80, 20)
    study_file.write_text(BY_PATH.format(path=str(file)) + STUDY.format(source=str(images)))
    command = ["-m", "platform.tune", study_file, "--storage", tmp_path, "--name", "run", "--address", "local"]
    process = subprocess.run(
        [sys.executable, *map(str, command), "--wandb", "disabled"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [trial["state"] for trial in results["trials"]] == ["COMPLETE", "COMPLETE"]
    assert results["test"]["num_images"] == 20
    assert f"squared error {results['test']['squared_error']:.4f}" in process.stdout
