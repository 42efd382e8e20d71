"""Builds the study of a chaos test: a study cut down to a few short trials whose points are fixed."""

import dataclasses

import numpy as np
from optuna.distributions import FloatDistribution

from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig

NUM_TRIALS = 3
NUM_EPOCHS = 10
CHECKPOINT_PERIOD_S = 0.5
NUM_DRAWN = 20
"""Points that are drawn to find as many different ones as there are trials."""
SAMPLE = Study(
    name="sample",
    task=ClassificationConfig(model="fashion_cnn"),
    data=DataConfig(source="sample", image_size=32),
    training=TrainingConfig(epochs=NUM_EPOCHS, batch_size=16),
    space={"task.learning_rate": FloatDistribution(1e-4, 1e-3, log=True)},
    objective=Objective(metric="val/loss", direction="minimize"),
)
"""The study where none is named."""
FILE = '''"""The study of this chaos test, as `raysweep tune` takes it."""

from raysweep.catalogue import load_study
from raysweep.chaos.study import SAMPLE, shrink

STUDY = shrink({study})
'''


def shrink(study: Study) -> Study:
    """Cuts a study down to NUM_TRIALS trials of NUM_EPOCHS epochs at most.

    All points are drawn beforehand, so that a trial's number says what it trains, however often the search is
    resumed. The precision is fp32: `auto` may choose another one each time. Checkpoints are as many as in longer
    trials.
    """
    settings = [
        "training.precision=fp32",
        f"training.epochs={NUM_EPOCHS}",
        f"training.checkpoint_period_s={CHECKPOINT_PERIOD_S}",
    ]
    small = dataclasses.replace(study, second_objective=None).with_settings(settings)
    if small.space:
        space = UnitCube(small.space, small.conditions)
        drawn = (space.to_params(row) for row in space.draw(np.random.default_rng(0), NUM_DRAWN))
        small = dataclasses.replace(small, points=(*small.points, *drawn))
    others = small.starting_points[1:NUM_TRIALS]
    return dataclasses.replace(small, points=tuple(others), budget=Budget(trials=1 + len(others)))


def write_study_file(name: str | None) -> str:
    """Writes the text of a study's file: of the study of that name or path, or of SAMPLE."""
    return FILE.format(study="SAMPLE" if name is None else f"load_study({name!r})")
