"""The report's sections on the search: which settings are said to have mattered."""

import random
from typing import Literal

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution

from raysweep.report.explanations import draw_importances


@pytest.mark.filterwarnings("ignore:PedAnova")
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_mattered_is_what_decides_the_best_trials_and_not_the_worst(
    direction: Literal["maximize", "minimize"],
) -> None:
    draw, study = random.Random(0), optuna.create_study(direction=direction)
    distributions: dict[str, BaseDistribution] = {
        "decides_best": FloatDistribution(0.0, 1.0),
        "decides_worst": FloatDistribution(0.0, 1.0),
    }
    for _ in range(100):
        params = {name: draw.random() for name in distributions}
        quality = (params["decides_best"] > 0.8) - (params["decides_worst"] < 0.2) + 0.01 * draw.random()
        value = quality if direction == "maximize" else -quality
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    (bars,) = draw_importances(study, list(distributions), "val/accuracy").data
    importances = dict(zip(bars.y, bars.x, strict=True))
    assert importances["decides_best"] > 4 * importances["decides_worst"]
