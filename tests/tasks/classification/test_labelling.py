"""Labels of networks of one's own, whatever they keep in themselves: the same with many cores as image by image."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raysweep import own_code
from raysweep import predict as prediction
from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.images import PreparedData
from raysweep.evaluate.stored_model import load_best
from raysweep.predict import iterate_predictions
from raysweep.run_folder import RunFolder
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.tasks.classification.labelling import Labeller, load_labeller
from raysweep.tasks.classification.rejection.features import extract_features
from raysweep.tasks.classification.task import ClassificationTask
from raysweep.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("one_thread")
CODE = """
import time

from torch import nn


class WeightNormed(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.features = nn.utils.weight_norm(nn.Conv2d(in_channels, 4, 3))
        self.last = nn.Linear(4, num_classes)

    def forward(self, images):
        return self.last(self.features(images).relu().mean((2, 3)))


class Closure(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.features = nn.Conv2d(in_channels, 4, 3)
        self.last = nn.Linear(4, num_classes)
        self.run = lambda images: self.last(self.features(images).relu().mean((2, 3)))

    def forward(self, images):
        return self.run(images)


class Keeping(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.features = nn.Conv2d(in_channels, 4, 3)
        self.last = nn.Linear(4, num_classes)

    def forward(self, images):
        self.kept = self.features(images)
        time.sleep(0.01)
        return self.last(self.kept.relu().mean((2, 3)))
"""


@pytest.fixture
def code(tmp_path: Path, no_lasting_trust: None) -> str:
    """A file of networks."""
    path = tmp_path / "networks.py"
    path.write_text(CODE)
    return str(path)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
@pytest.mark.parametrize("network", ["WeightNormed", "Closure", "Keeping"])
def test_networks_of_one_s_own_are_labelled_as_one_by_one(
    network: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep_model: Callable[..., RunFolder],
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> None:
    own_code.trust([f"{code}:{network}"])
    splits = {"train": draw_squares(40, 1), "val": draw_squares(40, 2)}
    config = TrialConfig(
        task=ClassificationConfig(model=f"{code}:{network}"),
        data=DataConfig(image_size=28, channels=1, normalization="symmetric"),
        training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
    )
    run = keep_model(tmp_path / "run", config, save_prepared(tmp_path / "data", splits, "abcd"))
    pixels = draw_squares(24, 3)[0].astype(np.uint8)
    files = [tmp_path / f"{index:02d}.png" for index in range(len(pixels))]
    for image, path in zip(pixels, files, strict=True):
        Image.fromarray(image[:, :, 0]).save(path)
    monkeypatch.setattr(prediction, "count_cores", lambda: 4)
    monkeypatch.setattr(prediction, "BATCH_SIZE", 3)
    said = list(iterate_predictions(run, files))
    model = load_best(run, torch.device("cpu"))
    labeller = load_labeller(run, model)
    for image, one in zip(pixels, said, strict=True):
        features = extract_features(model, labeller.normalise(torch.from_numpy(image[None])))
        confidence, index = features.logits.softmax(dim=1).max(dim=1)
        assert one.row["label"] == "abcd"[int(index)]
        assert one.row["confidence"] == pytest.approx(float(confidence), rel=1e-4)
        assert one.embedding is not None
        torch.testing.assert_close(torch.from_numpy(one.embedding), features.penultimate[0])


def test_several_threads_call_known_networks_only(keep_squares: Callable[..., RunFolder]) -> None:
    class OwnTask(ClassificationTask):
        """Somebody's own, which may build any network."""

    model = load_best(keep_squares(num_epochs=1), torch.device("cpu"))
    assert Labeller(model, None).is_thread_safe
    assert not Labeller(replace(model, task=OwnTask(model.config, model.info)), None).is_thread_safe
