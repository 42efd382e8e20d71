"""What the tests of the search share: a small study with a choice that opens another."""

from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study, When
from raysweep.tasks.classification import ClassificationConfig


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    """`(**changes)` -> a study of 12 trials over learning rate, epochs, optimizer and SGD's momentum."""

    def make(**changes: Any) -> Study:
        values = {
            "name": "small",
            "task": ClassificationConfig(model="fashion_cnn", optimizer="adam", dropout=0.5),
            "data": DataConfig(image_size=32),
            "training": TrainingConfig(epochs=3),
            "space": {
                "task.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
                "task.optimizer": CategoricalDistribution(("adam", "sgd")),
                "training.epochs": IntDistribution(3, 10),
            },
            "conditions": (When("task.optimizer", "sgd", {"task.momentum": FloatDistribution(0.5, 0.95)}),),
            "objective": Objective(metric="val/accuracy"),
            "budget": Budget(trials=12),
        }
        return Study(**{**values, **changes})

    return make


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    return make_study()
