"""What is slow or large to import is imported only where it is used: looked for in processes of their own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep.data.images import PreparedData
from raysweep.tasks import TASKS

ROOT = Path(__file__).parent.parent
OF_TESTS = {"torchmetrics"}
OF_EVALUATION = {"matplotlib", "pandas", "scipy", "sklearn"}
OF_SOME_TRIALS = {"timm", "torchvision"}
OF_THE_DRIVER = {"ray", "wandb"}
STUDIES = sorted(f"search_spaces.{path.stem}" for path in (ROOT / "search_spaces").glob("[a-z]*.py"))
CONFIGS = [reference.partition(":")[0] for reference in TASKS.built_in.values()]
TRAIN = """
from pathlib import Path
from raysweep.config import DataConfig, Objective, TrainingConfig
from raysweep.trial_config import TrialConfig
from raysweep.data.images import PreparedData
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.loop import fit
config = TrialConfig(
    task=ClassificationConfig(model="fashion_cnn", schedule="one_cycle", ema_decay=0.9),
    data=DataConfig(image_size=16, channels=1, normalization="symmetric"),
    training=TrainingConfig(epochs=1, batch_size=8),
)
fit(config, PreparedData.load(Path({folder!r})), Objective(metric="val/accuracy"), report=lambda report: None)
"""


def list_imported(code: str) -> set[str]:
    """The top-level modules that a fresh process has imported after the code, which runs in the project's folder."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return set(process.stdout.split())


def test_studies_and_configurations_of_tasks_import_nothing_heavy() -> None:
    imported = list_imported(f"import {', '.join([*STUDIES, *CONFIGS])}")
    assert {"optuna", "raysweep", "search_spaces"} <= imported
    assert not imported & {"torch", *OF_TESTS, *OF_EVALUATION, *OF_SOME_TRIALS, *OF_THE_DRIVER}


def test_looking_back_at_runs_imports_neither_torch_nor_ray() -> None:
    imported = list_imported(
        "import raysweep.runs.run_account, raysweep.runs.trial_account, raysweep.runs.cleaning_text"
    )
    assert "optuna" in imported
    assert not imported & {"torch", *OF_TESTS, *(OF_EVALUATION - {"scipy"}), *OF_SOME_TRIALS, *OF_THE_DRIVER}


def test_looking_for_a_model_imports_nothing_heavy() -> None:
    config = "from raysweep.tasks.classification.config import ClassificationConfig"
    imported = list_imported(f"{config}; ClassificationConfig(model='resnet18.a1_in1k').check_available()")
    assert "raysweep" in imported
    assert not imported & {"torch", "ray", *OF_SOME_TRIALS}


def test_what_refuses_a_search_imports_nothing_heavy() -> None:
    imported = list_imported("import raysweep.search.options, raysweep.search.preflight")
    assert "optuna" in imported
    assert not imported & {"torch", "sqlalchemy", *OF_TESTS, *OF_EVALUATION, *OF_SOME_TRIALS, *OF_THE_DRIVER}


@pytest.mark.parametrize("config", CONFIGS)
def test_training_imports_only_what_every_trial_uses(config: str) -> None:
    imported = list_imported(f"import raysweep.train.loop, {config.replace('.config', '.task')}")
    assert "torch" in imported
    assert not imported & {*OF_TESTS, *OF_EVALUATION, *OF_SOME_TRIALS, *OF_THE_DRIVER}


def test_a_process_of_a_trial_imports_ray_and_what_ray_imports_beside() -> None:
    imported = list_imported("import raysweep.train.trial")
    assert "ray" in imported
    assert not imported & {*OF_TESTS, *(OF_EVALUATION - {"pandas"}), *OF_SOME_TRIALS, "wandb"}


def test_a_whole_trial_without_augmentation_and_timm_does_without_them(
    tmp_path: Path, save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any]
) -> None:
    """Its images are resized, too."""
    splits = {"train": draw_squares(16, 1), "val": draw_squares(8, 2)}
    data = save_prepared(tmp_path / "data", splits, "abcd")
    imported = list_imported(TRAIN.format(folder=str(data.folder)))
    assert not imported & {*OF_TESTS, *OF_EVALUATION, *OF_SOME_TRIALS, *OF_THE_DRIVER}
