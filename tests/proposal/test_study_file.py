"""Studies proposed from folders: each loads, starting points build networks, and what was chosen fits the images."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

import raysweep
from raysweep.catalogue import load_study
from raysweep.commands.new import new
from raysweep.data.images import DataInfo, PreparedData
from raysweep.errors import UsageError
from raysweep.proposal import timer as timer_module
from raysweep.proposal.choices import AUTOENCODER, Choices, choose, count_epochs, find_weights, guess_seconds
from raysweep.proposal.facts import Images, Machine
from raysweep.proposal.run_study import find_run_study, name_run
from raysweep.proposal.study_file import render
from raysweep.proposal.timer import time_image
from raysweep.search.preflight import check_models, check_study
from raysweep.study import Study
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.number_format import measure_format
from raysweep.trial_record import NumberFormat

Make = Callable[..., Path]
PHOTOGRAPHS = Images(
    source="/data/photographs",
    num_train=3000,
    num_val=400,
    num_test=400,
    num_classes=10,
    side=400,
    is_grey=False,
    is_uneven=False,
)
CPUS, GPUS = Machine(num_cpus=2), Machine(num_cpus=16, num_gpus=8)
PRETRAINED = Choices(
    models=("efficientnet_lite0", "resnet10t"),
    pretrained=True,
    why_weights="their weights can be had",
    image_size=128,
    max_epochs=12,
    num_trials=20,
    batch_sizes=(32, 64, 128),
    learning_rate=3e-3,
    images_per_s=40.0,
)


def timer(name: str, size: int) -> float:
    """Times of a machine that trains on a hundred images of 64 pixels a second, whatever the network."""
    return 0.01 * (size / 64) ** 2


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weights, also where there is a network or a cache of them."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def propose(folder: Path, *arguments: str) -> Study:
    """The study that `new` writes for a folder, loaded and checked as `tune` does."""
    path = folder.parent / "proposed.py"
    done = CliRunner().invoke(
        new, [str(path), "--data", str(folder), "--storage", str(folder.parent / "results"), *arguments]
    )
    assert done.exit_code == 0, done.output
    return check(path)


def check(path: Path) -> Study:
    """Loads a study file, looks at its form, and builds the networks of its starting points."""
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--isolated", "--line-length", "120", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert formatted.returncode == 0, formatted.stderr + path.read_text()
    study = load_study(str(path))
    if not (isinstance(study.task, ClassificationConfig) and study.task.pretrained):
        check_study(study, 1)
        info = DataInfo(
            source="x",
            synthetic=False,
            digest="0",
            classes=("a", "b"),
            num_train=9,
            num_val=9,
            num_test=9,
            skipped=(),
        )
        check_models(study, cast(PreparedData, SimpleNamespace(info=info, folder=None)))
    return study


def make_grey_jpegs(root: Path, names: tuple[str, ...]) -> Path:
    random = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(root / name / f"{index}.jpg")
    return root


def test_small_grey_images_get_a_small_cnn_in_grey(tmp_path: Path) -> None:
    study = propose(make_grey_jpegs(tmp_path / "digits", ("0", "1")), "--time-budget", "30m")
    assert isinstance(study.task, ClassificationConfig)
    assert study.task.model == "fashion_cnn"
    assert (study.data.image_size, study.data.channels, study.data.normalization) == (28, 1, "unit")
    baseline, longest, _, other = study.starting_points
    assert longest["training.epochs"] > baseline["training.epochs"]
    assert other["task.model"] == "resnet10t"
    assert study.budget.time_s == 1800


def test_images_without_classes_get_an_autoencoder(tmp_path: Path) -> None:
    study = propose(make_grey_jpegs(tmp_path / "pictures", (".",)))
    assert isinstance(study.task, AutoencoderConfig)
    assert study.data.channels == 1


def test_rare_classes_can_be_weighted(tmp_path: Path, make_image_folder: Make) -> None:
    folder = make_image_folder(tmp_path / "cars", ["many"], 60)
    make_image_folder(folder, ["few"], 4)
    study = propose(folder)
    assert study.objective.metric == "val/macro_f1"
    assert "task.class_weighting" in study.space


def test_a_source_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cars.py"
    done = CliRunner().invoke(new, [str(path), "--data", "sample", "--storage", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert check(path).data.source == "sample"


def test_pretrained_networks_of_photographs_are_tuned_gently(tmp_path: Path) -> None:
    path = tmp_path / "photographs.py"
    path.write_text(render("photographs", PHOTOGRAPHS, CPUS, PRETRAINED, 3600.0))
    study = check(path)
    assert isinstance(study.task, ClassificationConfig)
    assert study.task.pretrained
    assert study.task.backbone_factor < 1
    assert "task.backbone_factor" in study.space


def test_the_name_of_a_folder_is_no_code(tmp_path: Path) -> None:
    folder = make_grey_jpegs(tmp_path / """x"''' + 1/0 + '\\""", ("a", "b"))
    path = tmp_path / "proposed.py"
    done = CliRunner().invoke(new, [str(path), "--data", str(folder), "--storage", str(tmp_path / "results")])
    assert done.exit_code == 0, done.output
    assert load_study(str(path)).data.source == str(folder)


def test_weights_are_looked_for_and_not_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network those of the hub's own cache can be had, and no others."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert find_weights(("test_resnet", "resnet10t")) == ()
    published = timm.get_pretrained_cfg("test_resnet")
    assert published is not None
    assert published.hf_hub_id is not None
    folder = tmp_path / f"models--{published.hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    weights = timm.create_model("test_resnet").state_dict()
    save_file(weights, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    assert find_weights(("test_resnet", "resnet10t")) == ("test_resnet",)


def test_more_compute_means_larger_images_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.proposal.choices.find_weights", lambda models: models)
    few, many = (choose(PHOTOGRAPHS, machine, 900, timer) for machine in (CPUS, GPUS))
    assert few.models[0] == "efficientnet_lite0"
    assert many.models[0] == "resnet50"
    assert few.image_size < many.image_size == 224
    total = count_epochs(1 / few.images_per_s, PHOTOGRAPHS, CPUS, 900)
    assert total / few.max_epochs >= 3
    assert few.max_epochs <= 15, "from pretrained weights a few epochs do"


def test_a_budget_has_room_for_some_whole_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.proposal.choices.find_weights", lambda models: ())
    for minutes in (30, 60, 600):
        choices = choose(PHOTOGRAPHS, CPUS, 60 * minutes, timer)
        assert choices.models == ("resnet10t", "resnet18")
        assert not choices.pretrained
        total = count_epochs(timer("resnet10t", choices.image_size), PHOTOGRAPHS, CPUS, 60 * minutes)
        assert total / choices.max_epochs >= 3
        assert choices.num_trials >= 6


@pytest.mark.parametrize("num_cpus", [1, 2, 64])
def test_the_longest_trial_ends_in_time_on_one_of_many_cores(num_cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.proposal.choices.find_weights", lambda models: ())
    choices = choose(PHOTOGRAPHS, Machine(num_cpus=num_cpus), 1200, timer)
    assert choices.max_epochs * PHOTOGRAPHS.num_train / choices.images_per_s <= 1200 * 0.67
    assert choices.max_epochs >= 10
    assert choices.num_trials >= 10 * num_cpus or choices.num_trials == 200


def test_a_faster_machine_trains_longer_or_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.proposal.choices.find_weights", lambda models: ())
    slow = choose(PHOTOGRAPHS, CPUS, 3600, lambda name, size: timer(name, size) * 10)
    fast = choose(PHOTOGRAPHS, CPUS, 3600, lambda name, size: timer(name, size) / 10)
    assert slow.image_size == 64 < fast.image_size
    assert slow.max_epochs < fast.max_epochs


def test_pretrained_networks_get_larger_images_for_fewer_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {}
    for had in (("efficientnet_lite0",), ()):
        monkeypatch.setattr("raysweep.proposal.choices.find_weights", lambda models, had=had: had)
        choices = choose(PHOTOGRAPHS, CPUS, 600, timer)
        sizes[choices.pretrained] = choices.image_size
        assert choices.max_epochs >= 3
    assert sizes[True] > sizes[False]


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 32), ("fashion_cnn", 28), (AUTOENCODER, 32)])
def test_steps_are_timed_in_one_thread(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def measure(*arguments: Any) -> NumberFormat:
        threads.append(torch.get_num_threads())
        return measure_format(*arguments)

    monkeypatch.setattr(timer_module, "measure_format", measure)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert 0 < time_image(name, size) < 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == [1]


def test_a_network_that_the_memory_does_not_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = NumberFormat(precision="bf16", channels_last=True)
    monkeypatch.setattr(timer_module, "measure_format", lambda *_: nothing)
    with pytest.raises(UsageError, match="the memory ran out"):
        time_image("fashion_cnn", 28)


@pytest.mark.parametrize("had", [(), ("efficientnet_b0",), ("regnety_016",), ("convnext_tiny",), ("resnet50",)])
@pytest.mark.parametrize(("side", "num_classes"), [(400, 10), (28, 10), (28, 0)])
def test_on_gpus_times_are_in_a_table(
    had: tuple[str, ...], side: int, num_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysweep.proposal.choices.find_weights", lambda models: had)
    images = dataclasses.replace(PHOTOGRAPHS, side=side, num_classes=num_classes)
    assert choose(images, GPUS, 3600, guess_seconds).images_per_s > 0


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("mine")
    done = CliRunner().invoke(new, [str(path), "--data", "sample"])
    assert "is not overwritten" in str(done.exception)
    assert path.read_text() == "mine"


def test_a_run_on_a_folder_has_its_study_beside_it(tmp_path: Path) -> None:
    folder = make_grey_jpegs(tmp_path / "my digits", ("0", "1"))
    said = {"storage": tmp_path / "results", "name": None, "resume": False, "time_s": 60.0, "gpus_per_worker": None}
    path = find_run_study(str(folder), said)
    assert path == str(tmp_path / "results/my_digits.py")
    assert (study := load_study(path)).name == "my_digits"
    assert study.budget.time_s == 60
    text = Path(path).read_text()
    Path(path).write_text(text.replace("dropout=0.2", "dropout=0.1"))
    assert find_run_study(str(folder), said) == path, "after a start that went wrong, or a look at it"
    assert cast(ClassificationConfig, load_study(path).task).dropout == 0.1
    assert find_run_study(str(folder), said | {"time_s": None}) == path, "whatever its time budget"
    for change in ({"time_s": 6000.0}, {"name": "other"}):
        (tmp_path / "results/other.py").write_text(text)
        with pytest.raises(UsageError, match="and it is not overwritten"):
            find_run_study(str(folder), said | change)
    folder.rename(tmp_path / "moved")
    assert find_run_study(str(tmp_path / "moved"), said | {"resume": True, "name": "my_digits"}) == path
    with pytest.raises(UsageError, match="no study file"):
        find_run_study(str(tmp_path / "moved"), said | {"resume": True})
    (tmp_path / "results/my_digits").mkdir()
    with pytest.raises(UsageError, match="--resume"):
        find_run_study(str(tmp_path / "moved"), said | {"name": "my_digits"})


def test_python_takes_a_folder_as_the_command_line_does(tmp_path: Path) -> None:
    folder = make_grey_jpegs(tmp_path / "digits", ("0", "1"))
    with pytest.raises(UsageError, match="number of trials must be at least 1"):  # of the study that was proposed
        raysweep.tune(folder, storage=tmp_path / "results", time_s=60.0, trials=-1)
    assert load_study(str(tmp_path / "results/digits.py")).name == "digits"
    with pytest.raises(UsageError, match=r"is a folder and no study; `python -m platform\.new NAME"):
        raysweep.plan(folder)


def test_a_study_stays_the_one_that_is_named() -> None:
    for named in ("fashion_cnn", "search_spaces/fashion_cnn.py", "no_such", "x" * 5000):
        assert find_run_study(named, {}) == named


@pytest.mark.parametrize(("source", "name"), [("/a/My cars", "My_cars"), ("hf:a/b", "b"), ("/", "images")])
def test_runs_are_named_after_their_images(source: str, name: str) -> None:
    assert name_run(source) == name
