"""A training step of each study on a device without values: none is waited for, and its operations are counted.

On `meta` a value that is read, or a tensor of another device beside one, is an error; on a GPU it is a wait or a crash.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from raysweep.catalogue import load_study
from raysweep.data.batches import Batch, Worker
from raysweep.data.images import DataInfo
from raysweep.data.mixing import Mixing
from raysweep.study import Study
from raysweep.train.task import build_task

META = torch.device("meta")
BATCH = 8
PLAIN = {"task.pretrained": False, "training.precision": "fp32"}


class Counter(TorchDispatchMode):
    """Counts the operations that make or change tensors on `meta`, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **kwargs or {})
        self.count += not function.is_view
        return result


def count_operations(study: Study, *, mixed: bool = False, num_steps: int = 3) -> int:
    """The operations of the last of some steps; the first build an optimizer's state."""
    config = study.trial_config({}, 0)
    info = DataInfo(
        source="", synthetic=True, digest="", classes=tuple("0123456789"),
        num_train=BATCH * num_steps, num_val=BATCH, num_test=0,
    )  # fmt: skip
    task = build_task(config, info)
    state = task.init_state(Worker(device=META), lambda module: module)
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["foreach"] = True  # as on a GPU: all weights in one operation
    side = config.data.image_size
    images = torch.empty(BATCH, config.data.channels, side, side, device=META)
    labels = torch.empty(BATCH, dtype=torch.int64, device=META)
    mixing = Mixing(labels, torch.empty(BATCH, device=META)) if mixed else None
    for _ in range(num_steps):
        with Counter() as counter:
            means = task.train_step(state, Batch(images, labels, np.arange(BATCH), mixing=mixing))
        state.step += 1
    assert all(value.is_meta for value in means.values())
    for average in state.averages.values():
        average.update(state.modules[task.main_module])
    return int(counter.count)


@pytest.mark.parametrize(
    ("name", "settings", "most"),
    [
        pytest.param("fashion_cnn", {}, 90, id="fashion_cnn"),
        pytest.param("fashion_cnn", {"task.ema_decay": 0.99, "task.gradient_clip_norm": 1.0}, 118, id="averaged"),
        pytest.param("car_resnet", {"data.image_size": 64}, 1320, id="car_resnet"),
        pytest.param("fashion_autoencoder", {}, 90, id="autoencoder"),
        pytest.param("fashion_autoencoder", {"task.variant": "variational"}, 130, id="variational"),
        pytest.param("mnist_dcgan", {}, 195, id="dcgan"),
        pytest.param(
            "mnist_dcgan",
            {"task.spectral_norm": True, "task.augmentation": "colour_translation_cutout", "task.ema_decay": 0.99},
            485,
            id="dcgan, everything",
        ),
        pytest.param("mnist_gan", {}, 145, id="gan"),
        pytest.param("mnist_gan", {"task.loss": "wasserstein_gp"}, 195, id="gradient penalty"),
    ],
)
def test_a_step_waits_for_no_value_and_has_few_operations(name: str, settings: dict[str, Any], most: int) -> None:
    study = load_study(name)
    values = {key: value for key, value in (PLAIN | settings).items() if key in study.fields()}
    study = study.with_settings(f"{key}={value}" for key, value in values.items())
    assert values.keys() >= settings.keys()
    assert count_operations(study) <= most


def test_mixed_labels_wait_for_no_value() -> None:
    study = load_study("fashion_cnn").with_settings(["training.precision=fp32"])
    assert count_operations(study, mixed=True) <= count_operations(study) + 13
