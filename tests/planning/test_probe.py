"""The probe behind a plan: the part of the images that it takes, its size, what a trial's process says of itself, and
a plan on a real local Ray."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from optuna.distributions import CategoricalDistribution

from raysweep import config_fields
from raysweep.cli import cli
from raysweep.config import TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.errors import UsageError
from raysweep.planning.probe import NUM_POINTS, PROBE_S, size_part
from raysweep.run_folder import TrialFolder
from raysweep.study import Study
from raysweep.train.usage import Usage, UsageRecorder, peak_memory


def test_a_part_of_the_images_is_spread_over_all_of_them(
    tmp_path: Path, save_prepared: Callable[..., PreparedData], draw_squares: Callable[..., Any]
) -> None:
    data = save_prepared(tmp_path / "all", {"train": draw_squares(80, 0), "val": draw_squares(20, 1)}, "abcd")
    (data.folder / "judge.safetensors").write_text("beside the images")
    part = data.take_subset(tmp_path / "part", 5, 1000)
    assert (part.info.num_train, part.info.num_val) == (len(part.train), len(part.val)) == (5, 20)
    chosen = np.array([0, 20, 40, 59, 79])
    assert (part.train.gather(np.arange(5)) == data.train.gather(chosen)).all()
    assert (part.train.labels == data.train.labels[chosen]).all()
    assert (part.folder / "judge.safetensors").read_text() == "beside the images"
    assert (part.folder / "train" / "images.npy").is_symlink()


@pytest.mark.parametrize(
    ("speed", "side_by_side", "num_points", "num_images"),
    [
        (1000, 2, NUM_POINTS, PROBE_S / 2 * 1000 / 3),  # three rounds of two epochs each
        (1e9, 2, NUM_POINTS, 48_000),
        (1000, 20, 20, PROBE_S / 2 * 1000),
        (40, 2, 4, PROBE_S / 2 * 40 / 2),  # a third round would not fit a batch of each size
        (1, 2, 2, 128),
    ],
)
def test_the_probe_is_as_large_as_its_time_allows(
    make_study: Callable[..., Study], speed: float, side_by_side: int, num_points: int, num_images: float
) -> None:
    study = make_study(
        space={"training.batch_size": CategoricalDistribution((32, 128))},
        conditions=(),
        training=TrainingConfig(batch_size=32),
    )
    assert size_part(study, 48_000, speed, side_by_side) == (num_points, round(num_images))


def test_a_process_tells_when_its_epochs_ended_and_what_memory_it_had(tmp_path: Path) -> None:
    recorder = UsageRecorder(TrialFolder(tmp_path).usage, torch.device("cpu"))
    before = peak_memory()
    held = torch.ones(50_000_000)  # 200 MB
    for _ in range(2):
        recorder.epoch_ended()
    del held
    usage = config_fields.from_json(Usage, json.loads(TrialFolder(tmp_path).usage.read_text()))
    assert 0 < usage.epoch_ends_s[0] < usage.epoch_ends_s[1]
    assert usage.gpu_total_bytes == 0
    assert peak_memory() * 1.01 >= usage.memory_bytes > before / 2  # the kernel counts in batches
    assert usage.memory_bytes > 200_000_000


@pytest.mark.ray
def test_a_plan_of_a_small_study(ray_local: None, make_image_folder: Callable[..., Path], tmp_path: Path) -> None:
    images = make_image_folder(tmp_path / "images", 4, 25)
    (tmp_path / "cluster.yaml").write_text("metadata: {prices_per_hour: {mine: 3.6}}")
    arguments = ["plan", "fashion_cnn", "--data", str(images), "--storage", str(tmp_path / "results"), "--trials", "3"]
    arguments += ["--set", "training.batch_size=16", "--cluster", str(tmp_path / "cluster.yaml"), "--json"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    plan = json.loads(done.stdout)
    baseline, *others = plan["probe"]["points"]
    assert baseline["params"]["task.learning_rate"] == 1e-3
    assert any(point["params"] != baseline["params"] for point in others)
    for point in (baseline, *others):
        assert "training.epochs" not in point["params"]
        assert 0 < point["train_s"] < 60
        assert 0 < point["best_bytes"] < point["last_bytes"]
    assert 5e7 < plan["memory_bytes"] < 5e9
    assert 0 < plan["wall"]["low_s"] <= plan["wall"]["expected_s"] <= plan["wall"]["high_s"]
    assert plan["cost"]["high"] == pytest.approx(3.6 * plan["wall"]["high_s"] / 3600)
    assert not list((tmp_path / "results").glob(".plan-*"))
    assert list((tmp_path / "results").glob(".cache/*/info.json")), "decoded images are there for the search"
    with pytest.raises(UsageError, match="0 GPUs hold 0"):
        CliRunner().invoke(cli, [*arguments, "--gpus-per-worker", "1"], catch_exceptions=False)
