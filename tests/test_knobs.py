"""Every knob is connected: each key of each study's space changes models, data or updates within a few seeded steps."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep.catalogue import list_studies, load_study
from raysweep.data.batches import Worker
from raysweep.data.images import PreparedData
from raysweep.study import Study
from raysweep.train.checkpoint import digest_tensors
from raysweep.train.loop import _train_epoch, is_finished
from raysweep.train.state import to_tensors
from raysweep.train.step import StepRunner
from raysweep.train.task import build_task
from raysweep.trial_result import Params

SMALL = {"car_resnet": ["task.model=resnet10t", "task.pretrained=false", "data.image_size=32"]}
STRENGTH = "data.augmentation.strength"
NUM_EPOCHS = 2
NUM_FLAT_EPOCHS = 5
"""So many epochs without a better loss lower a plateau schedule's rate."""


def load_small(name: str) -> Study:
    return load_study(name).with_settings([*SMALL.get(name, ()), "training.precision=fp32"])


IN_EVALUATION = "task.test_time_flip"
"""Changes nothing in training; tests/tasks/classification/test_task.py sees what it does."""
KNOBS = [
    (name, key) for name in list_studies() for key, _ in load_small(name).all_distributions() if key != IN_EVALUATION
]


def list_values(study: Study, key: str) -> list[Any]:
    """All choices, or the two ends of a range."""
    distribution = dict(study.all_distributions())[key]
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def make_point(study: Study, key: str) -> Params:
    """The baseline, with the choice that opens the key where one does."""
    for condition in study.conditions:
        if key in condition.space:
            value = condition.values if isinstance(condition.values, str) else condition.values[0]
            return study._point({condition.key: value})
    if key == "task.optimizer":  # Adam and AdamW differ where there is a decay
        return {**study.baseline, "task.weight_decay": list_values(study, "task.weight_decay")[-1]}
    if key.startswith("data.augmentation.") and key != STRENGTH:  # which scales it
        return {**study.baseline, STRENGTH: list_values(study, STRENGTH)[-1]}
    return study.baseline


@pytest.fixture(scope="module")
def make_data(
    save_prepared: Callable[..., PreparedData],
    draw_squares: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[int, int, int], PreparedData]:
    """Prepared images (number, channels, side), made once each."""
    made = {}

    def make(number: int, channels: int, side: int) -> PreparedData:
        if (number, channels, side) not in made:
            images, labels = draw_squares(number, 0)
            images = np.pad(images, ((0, 0), (2, side - 30), (2, side - 30), (0, 0))) if side > 28 else images
            splits = {"train": (np.repeat(images, channels, axis=3), labels)}
            made[number, channels, side] = save_prepared(tmp_path_factory.mktemp("data") / "set", splits, "abcd")
        return made[number, channels, side]

    return make


def take_fingerprint(
    study: Study, params: Params, make_data: Callable[[int, int, int], PreparedData], *, shrinks_batches: bool
) -> tuple[Any, ...]:
    """What is left of a few seeded steps: weights, averages, optimizers, learning rates, and when the trial ends."""
    if shrinks_batches:
        params = {key: value for key, value in params.items() if key != "training.batch_size"}
        study = study.with_settings(["training.batch_size=4"])
    config = study.trial_config(params, 0)
    data = make_data(12 if shrinks_batches else 130, config.data.channels, config.data.image_size)
    torch.manual_seed(0)
    task = build_task(config, data.info)
    state = task.init_state(Worker(), lambda module: module)
    runner = StepRunner(task, state, data.train, config, Worker())
    for _ in range(NUM_EPOCHS):
        _train_epoch(runner, state, config, data.train, Worker())
        state.epoch += 1
    for schedule in state.schedules.values():
        for _ in range(NUM_FLAT_EPOCHS):
            schedule.end_epoch({"val/loss": 1.0})
    rates = [group["lr"] for optimizer in state.optimizers.values() for group in optimizer.param_groups]
    tensors: dict[str, torch.Tensor] = {}
    to_tensors({"modules": state.state_dict()["modules"], "averages": state.state_dict()["averages"]}, tensors)
    while not is_finished(state, config):
        state.epoch += 1
    return digest_tensors(tensors, ""), rates, state.epoch


@pytest.mark.parametrize(("name", "key"), KNOBS, ids=lambda value: value)
def test_each_value_makes_a_difference(
    name: str, key: str, make_data: Callable[[int, int, int], PreparedData], one_thread: None
) -> None:
    study = load_small(name)
    point = make_point(study, key)
    prints = {}
    for value in list_values(study, key):
        params = study._point({**point, key: value})
        prints[value] = take_fingerprint(study, params, make_data, shrinks_batches=key != "training.batch_size")
    for (one, left), (other, right) in combinations(prints.items(), 2):
        assert left != right, f"{one} and {other} are the same"
