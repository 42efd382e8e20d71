"""Pretrained weights: from files, the hub's cache and a run; what does not fit is refused; digests are kept to."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from raysweep.config import DataConfig, TrainingConfig
from raysweep.config_fields import replace_fields
from raysweep.data.images import DataInfo
from raysweep.errors import UsageError
from raysweep.tasks.classification.config import WEIGHTS_FOLDER, ClassificationConfig
from raysweep.tasks.classification.networks import Classifier
from raysweep.tasks.classification.weights import read_file
from raysweep.train.checkpoint import save_weights
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

INFO = DataInfo(source="s", synthetic=False, digest="d", classes=("a", "b"), num_train=8, num_val=2, num_test=2)


def build(cache: Path | None = None, channels: int = 3, **values: Any) -> Classifier:
    """Builds what a trial begins with; `cache` has a link beside the images, as a run has it."""
    config = TrialConfig(
        task=ClassificationConfig(**{"model": "test_resnet", **values}),
        data=DataConfig(image_size=32, channels=channels, normalization="unit"),  # type: ignore[arg-type]
        training=TrainingConfig(batch_size=4),
    )
    model = build_task(config, INFO, folder=cache).init_modules()["model"]
    assert isinstance(model, Classifier)
    return model


def make_weights(model: str = "test_resnet", **values: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: value.clone() for name, value in timm.create_model(model, **values).state_dict().items()}


def assert_loaded(model: Classifier, weights: dict[str, torch.Tensor]) -> None:
    backbone = model.backbone.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in backbone.items())


def wrap(weights: dict[str, torch.Tensor], form: str, path: Path) -> Path:
    """Writes weights as trainings leave them."""
    if form == "safetensors":
        save_file(weights, path)
    elif form == "plain":
        torch.save(weights, path)
    elif form == "old torch":
        torch.save(weights, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "plain", "old torch", "wrapped"])
def test_weights_of_a_file(form: str, tmp_path: Path) -> None:
    weights = make_weights()
    model = build(pretrained=str(wrap(weights, form, tmp_path / "w")))
    assert_loaded(model, weights)
    assert model.last_linear.out_features == 2


def test_weights_of_an_earlier_run(tmp_path: Path) -> None:
    first = build()
    save_weights(tmp_path / "model.safetensors", {"model": first}, {"epoch": 1, "value": 0.5})
    assert_loaded(build(pretrained=str(tmp_path)), first.backbone.state_dict())


def test_weights_of_colour_images_for_grey_ones(tmp_path: Path) -> None:
    weights = make_weights()
    model = build(channels=1, pretrained=str(wrap(weights, "plain", tmp_path / "w")))
    torch.testing.assert_close(
        model.backbone.state_dict()["conv1.0.weight"], weights["conv1.0.weight"].sum(1, keepdim=True)
    )


def test_the_report_head_takes_the_classifier_where_it_fits(tmp_path: Path) -> None:
    weights = make_weights()
    model = build(head="report", pretrained=str(wrap(weights, "plain", tmp_path / "w")))
    assert torch.equal(model.backbone.state_dict()["fc.weight"], weights["fc.weight"])
    few = wrap(make_weights(num_classes=7), "plain", tmp_path / "few")
    assert build(head="report", pretrained=str(few)).backbone.state_dict()["fc.weight"].shape == (1000, 96)


def test_other_names_are_loaded_in_order_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = make_weights()
    renamed = {f"tensor{index}": value for index, value in enumerate(weights.values())}
    model = build(pretrained=str(wrap(renamed, "plain", tmp_path / "w")))
    assert_loaded(model, weights)
    assert "fit in order" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"conv1.0.weight": torch.zeros(3, 3, 3, 3)}, r"conv1\.0\.weight must be \(\d+, 3, 3, 3\), got \(3, 3, 3, 3\)"),
        ({"more.weight": torch.zeros(4)}, r"more\.weight \(4,\) is of no use"),
        ({"conv1.0.weight": None}, r"no conv1\.0\.weight \("),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_their_tensors(
    other: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    weights = {name: value for name, value in {**make_weights(), **other}.items() if value is not None}
    with pytest.raises(UsageError, match=message):
        build(pretrained=str(wrap(weights, "plain", tmp_path / "w")))


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_of_pickled_objects_runs_nothing(tmp_path: Path) -> None:
    torch.save({"state_dict": Evil(tmp_path / "ran")}, tmp_path / "w")
    (tmp_path / "p").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=2))
    (tmp_path / "text").write_text("no weights")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers")
    (tmp_path / "cut").write_bytes(b"\x80\x02")
    for name in ("w", "p", "text", "numbers", "cut"):
        with pytest.raises(UsageError, match="weights must be"):
            read_file(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"task\.pretrained must be .*no file"):
        ClassificationConfig(model="test_resnet", pretrained=str(tmp_path / "none.pt")).fetch(tmp_path)


def test_a_run_keeps_to_the_weights_that_it_began_with(tmp_path: Path) -> None:
    """Trials need neither the file, once it was fetched, nor do they take another one of its name."""
    path, cache = tmp_path / "w", tmp_path / "cache"
    weights = make_weights()
    wrap(weights, "plain", path)
    values: dict[str, Any] = {"model": "test_resnet", "pretrained": str(path)}
    task = replace_fields(ClassificationConfig(**values), ClassificationConfig(**values).fetch(cache))
    wrap({name: value + 1 for name, value in weights.items()}, "plain", path)
    assert_loaded(build(cache, **values, weights=task.weights), weights)
    assert ClassificationConfig(**values).fetch(cache)["weights"] != task.weights
    with pytest.raises(UsageError, match="must be those that the run began with"):
        build(tmp_path, **values, weights=task.weights)
    assert len(list((cache / WEIGHTS_FOLDER).glob("*.safetensors"))) == 2


def test_fashion_cnn_has_no_pretrained_weights() -> None:
    with pytest.raises(UsageError, match=r"task\.pretrained=false"):
        ClassificationConfig(model="fashion_cnn", pretrained=True).check_available()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def store_weights(hub: Path, model: str) -> dict[str, torch.Tensor]:
    """Puts weights of `model` into the cache as a download leaves them."""
    torch.manual_seed(5)
    weights = timm.create_model(model).state_dict()
    published = timm.get_pretrained_cfg(model)
    assert published is not None
    assert published.hf_hub_id is not None
    repository = published.hf_hub_id.replace("/", "--")
    folder = hub / f"models--{repository}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(weights, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    return weights


def test_pretrained_weights_come_from_the_cache(hub: Path) -> None:
    """As timm itself loads them."""
    weights = store_weights(hub, "test_resnet")
    torch.manual_seed(0)
    model = build(pretrained=True)
    backbone = model.backbone.state_dict()
    assert backbone.keys() == weights.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, weights[name]) for name, value in backbone.items())
    fresh = build().backbone.state_dict()
    assert not torch.equal(fresh["conv1.0.weight"], weights["conv1.0.weight"])


def test_pretrained_weights_of_the_report_head_and_one_channel(hub: Path) -> None:
    weights = store_weights(hub, "test_resnet")
    backbone = build(pretrained=True, head="report", channels=1).backbone.state_dict()
    assert torch.equal(backbone["fc.weight"], weights["fc.weight"])
    torch.testing.assert_close(backbone["conv1.0.weight"], weights["conv1.0.weight"].sum(1, keepdim=True))


def test_weights_of_a_repository(hub: Path, tmp_path: Path) -> None:
    weights = store_weights(hub, "test_resnet")
    name = timm.get_pretrained_cfg("test_resnet").hf_hub_id  # type: ignore[union-attr]
    assert_loaded(build(pretrained=f"hf-hub:{name}"), weights)


def test_what_was_fetched_is_enough_without_the_hub(hub: Path, tmp_path: Path) -> None:
    weights = store_weights(hub, "test_resnet")
    config = ClassificationConfig(model="test_resnet", pretrained=True)
    fetched = config.fetch(tmp_path / "cache")
    for folder in hub.glob("models--*"):
        shutil.rmtree(folder)
    assert config.fetch(tmp_path / "cache") == fetched
    assert_loaded(build(tmp_path / "cache", pretrained=True, weights=fetched["weights"]), weights)


@pytest.mark.usefixtures("hub")
def test_weights_that_cannot_be_had(tmp_path: Path) -> None:
    for fail in (
        lambda: ClassificationConfig(model="resnet10t", pretrained=True).fetch(tmp_path),
        lambda: build(model="resnet10t", pretrained=True),
    ):
        with pytest.raises(
            UsageError, match=r"pretrained weights of resnet10t cannot be had: .*\n.*task.pretrained=false"
        ):
            fail()


@pytest.mark.usefixtures("hub")
def test_a_model_that_was_never_pretrained(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="pretrained weights of cspresnet50d cannot be had: No pretrained weights exist"
    ):
        ClassificationConfig(model="cspresnet50d", pretrained=True).fetch(tmp_path)


def test_without_a_connection_the_answer_comes_in_seconds(tmp_path: Path) -> None:
    """The hub's client by itself tries again for most of a minute. Port 9 of this machine refuses connections."""
    code = """
import os
import time
from pathlib import Path
import huggingface_hub
import timm
from raysweep.errors import UsageError
from raysweep.tasks.classification import networks, weights
from raysweep.tasks.classification.config import ClassificationConfig
began = time.perf_counter()
try:
    ClassificationConfig(model="resnet10t", pretrained=True).fetch(Path(os.environ["HF_HOME"]))
except UsageError as error:
    print("UsageError" if "resnet10t cannot be had" in str(error) else error, time.perf_counter() - began)
"""
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=480)
    kind, duration_s = done.stdout.split()
    assert kind == "UsageError"
    assert float(duration_s) < 40
