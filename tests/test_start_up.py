"""What needs no training answers without the libraries of training: counts modules, measures no time."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "torchvision", "torchmetrics", "timm", "ray", "wandb", "pandas", "scipy", "matplotlib", "sklearn"}
STUDY = """
from optuna.distributions import FloatDistribution
from raysweep import ClassificationConfig, DataConfig, Objective, Study, TrainingConfig

STUDY = Study(
    name="mistaken",
    task=ClassificationConfig(learning_rate=1e-3),
    data=DataConfig(),
    training=TrainingConfig(),
    space={space},
    objective=Objective(metric="val/accuracy"),
)
"""


def list_imports(*arguments: str) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """Top-level names of the modules that a process imports, and the process when it has ended."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", process.stderr, flags=re.MULTILINE)
    assert "io" in names
    return {name.split(".")[0] for name in names}, process


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[[str], str]:
    def write(space: str) -> str:
        path = tmp_path / "mistaken.py"
        path.write_text(STUDY.format(space=space))
        return str(path)

    return write


VERBS = [*COMMANDS.built_in]


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str) -> None:
    names, process = list_imports("-m", f"platform.{verb}", "--help")
    assert process.returncode == 0
    assert not names & HEAVY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "no_such"], "unknown study"),
        (["tune", "--no-such-flag"], "No such option"),
        (["plan", "no_such"], "unknown study"),
        (["doctor", "--study", "no_such"], "unknown study"),
        (["tune", "fashion_cnn", "--set", "task.learning_rat=1"], "did you mean 'task.learning_rate'"),
        (["tune", "fashion_cnn", "--set", "task.learning_rate=-1"], "task.learning_rate must be above 0"),
        (["tune", "fashion_cnn", "--trials", "0"], "must be at least 1"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    verb, *others = arguments
    names, process = list_imports("-m", f"platform.{verb}", *others)
    assert process.returncode == 2
    assert message in process.stderr
    assert not names & HEAVY


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('{"task.learning_rat": FloatDistribution(1e-4, 1e-2)}', "did you mean 'task.learning_rate'"),
        ('{"task.learning_rate": FloatDistribution(-1, 1e-2)}', "task.learning_rate must be above 0"),
    ],
)
def test_a_mistake_in_a_study(space: str, message: str, write_study: Callable[[str], str]) -> None:
    names, process = list_imports("-m", "platform.tune", write_study(space))
    assert process.returncode == 2
    assert message in process.stderr
    assert not names & HEAVY


def test_the_studies_there_are() -> None:
    names, process = list_imports("-m", "platform.studies")
    assert "fashion_cnn" in process.stdout
    assert not names & HEAVY


def test_importing_the_package_costs_nothing() -> None:
    names, _ = list_imports("-c", "import raysweep; dir(raysweep)")
    without, _ = list_imports("-c", "pass")
    assert names - without - sys.stdlib_module_names == {"raysweep"}
