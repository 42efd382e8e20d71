"""The recorded curves that benchmarks/search_efficiency.py searches on: complete, and points of the study's space."""

import json
from pathlib import Path

from search_spaces.fashion_cnn import STUDY

ROOT = Path(__file__).parents[3]
NOT_RECORDED = {
    "training.epochs",
    "data.augmentation.random_erasing",
    "task.ema_decay",
    "task.model_args.width",
    "task.model_args.residual",
    "task.test_time_flip",
}
"""Always 15; and what the study searches only since."""


def test_the_recorded_curves_are_whole_and_of_the_study_s_space() -> None:
    lines = (ROOT / "benchmarks" / "fashion_cnn_curves.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    space = {key: distribution for key, distribution in STUDY.space.items() if key not in NOT_RECORDED}
    assert len({row["number"] for row in rows}) == len(rows) >= 100
    for row in rows:
        assert set(row["params"]) == set(space)
        for key, value in row["params"].items():
            assert space[key]._contains(space[key].to_internal_repr(value)), (key, value)
        assert len(row["accuracy"]) == len(row["seconds"]) == 15
        assert all(0 <= value <= 1 for value in row["accuracy"])
        assert min(row["seconds"]) > 0
        assert max(row["accuracy"]) > row["accuracy"][0]
