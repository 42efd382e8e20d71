"""A weak DDP trial ends by itself, early, and the next one gets what it held."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.file_guard import read_json_lines
from raysweep.search.options import RunOptions
from raysweep.search.run import run_study
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not os.environ.get("RAYSWEEP_TEST_KILLS"), reason="minutes: RAYSWEEP_TEST_KILLS=1 runs it"),
]
NUM_EPOCHS = 12


def test_a_weak_ddp_trial_stops_and_its_resources_come_back(
    ray_local: None, make_image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial takes all CPUs: trial 2 runs only where trial 1 has given them back."""
    original = Strategy.report
    monkeypatch.setattr(
        Strategy,
        "report",
        lambda self, number, epoch, value: original(self, number, epoch, value) or (number == 1 and epoch >= 1),
    )
    study = Study(
        name="ddp",
        task=ClassificationConfig(model="fashion_cnn"),
        data=DataConfig(source=str(make_image_folder(tmp_path / "images", 4, 40)), image_size=32),
        training=TrainingConfig(epochs=NUM_EPOCHS, batch_size=16, precision="fp32"),
        space={"task.learning_rate": FloatDistribution(1e-4, 1e-3, log=True)},
        objective=Objective(metric="val/loss", direction="minimize"),
        budget=Budget(trials=3),
    )
    options = RunOptions(storage=tmp_path, name="ddp", wandb="disabled", num_workers=2)
    results = run_study(study, options).results
    assert [trial.state for trial in results.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert results.test.num_images == results.data.num_test
    epochs = [len(read_json_lines(options.run_folder.trial(number).metrics)) for number in range(3)]
    assert epochs[0] == epochs[2] == NUM_EPOCHS
    assert epochs[1] < NUM_EPOCHS
    assert sorted(path.parent.name for path in options.run_folder.trials.glob("*/best")) == ["0000", "0002"]
    assert not list(options.run_folder.trials.glob("*/last"))
