"""Learning curves recorded from the Fashion CNN (record_curves.py) as one more task of search_efficiency.py.

A search proposes points that were not recorded. Their curves come from extremely randomised trees (Geurts et al.,
2006) over the points in the unit cube, one forest for all epochs together: at a recorded point its own curve, elsewhere
a mean of recorded curves. Surrogates are what YAHPO Gym (Pfisterer et al., 2022) does; the nearest recorded point, the
other usual way, predicts curves that were held out less well (final accuracy: R2 0.18, the trees' 0.68; 120
configurations, 20 folds). Limits: nothing is better than the best recorded curve, and seen closely the surface has
steps; between recorded points curves jump from epoch to epoch half as far as real ones do, which makes stopping easier
than it is; a configuration has one curve, not one a seed.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution
from sklearn.ensemble import ExtraTreesRegressor

from raysweep.config import Budget
from raysweep.search.strategy.unit_cube import UnitCube
from raysweep.study import Study
from search_spaces.fashion_cnn import STUDY

TASK, NUM_EPOCHS = "fashion_cnn", 15
LATER = {
    "data.augmentation.random_erasing": 0.0,
    "task.ema_decay": "none",
    "task.model_args.width": 32,
    "task.model_args.residual": "false",
    "task.test_time_flip": "false",
}
"""What the study searches only since."""
RECORDS = Path(__file__).with_name("fashion_cnn_curves.jsonl")


def build_study(trials: int, seed: int) -> Study:
    """The study `fashion_cnn` as it was recorded, with 15 epochs for every trial and no early stopping."""
    fixed = {
        "training.epochs": NUM_EPOCHS,
        "training.early_stopping_patience": "none",
        "training.precision": "bf16",
        "data.augmentation.horizontal_flip": 0.5,
        "data.augmentation.random_crop": 0.3,
        "data.augmentation.rotation_degrees": 15.0,
        "data.augmentation.brightness": 0.3,
        "data.augmentation.contrast": 0.3,
        **LATER,
    }
    fixed_study = STUDY.with_settings([f"{key}={value}" for key, value in fixed.items()])
    space = {**fixed_study.space, "task.dropout": FloatDistribution(0.1, 0.7)}  # 0.0 is searched only since
    return dataclasses.replace(fixed_study, space=space, points=(), budget=Budget(trials=trials), seed=seed)


def load_records(path: Path = RECORDS) -> list[dict[str, Any]]:
    """What record_curves.py wrote, a row a configuration."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


class Recorded:
    """A configuration's accuracy after each epoch, and how long each epoch takes, between the recorded ones."""

    build_study = staticmethod(build_study)

    def __init__(self) -> None:
        rows = load_records()
        self._space = UnitCube(build_study(1, 0).space)
        points = self._features([row["params"] for row in rows])
        self._accuracy = ExtraTreesRegressor(random_state=0).fit(points, [row["accuracy"] for row in rows])
        seconds = np.array([row["seconds"] for row in rows])
        self._clock = ExtraTreesRegressor(random_state=0).fit(points, seconds)
        self.mean_epoch_s = float(seconds.mean())

    def load(self, params: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Validation accuracy in [0, 1] after each epoch, and the CPU seconds that each epoch takes: (15,) both."""
        point = self._features([params])
        return self._accuracy.predict(point)[0], self._clock.predict(point)[0]

    def _features(self, points: list[dict[str, Any]]) -> np.ndarray:
        return self._space.to_features(np.array([self._space.to_row(params) for params in points]))
