"""A sampler, a pruner and a source of images as somebody else would write them; test_search.py uses them by name."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from PIL import Image

from raysweep import WHOLE_FILE, Records, Source, Study


class Lowest(BaseSampler):
    """Proposes the low end of every range, and of choices the first."""

    def __init__(self, study: Study, num_trials: int) -> None:
        assert num_trials < study.budget.trials

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if isinstance(param_distribution, CategoricalDistribution):
            return param_distribution.choices[0]
        assert isinstance(param_distribution, FloatDistribution | IntDistribution)
        return param_distribution.low


class StopAt(BasePruner):
    """Stops every trial after one epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.last_step == self.epoch


def stop_at_one(study: Study) -> BasePruner:
    return StopAt(1)


def load_shades(argument: str, *, split_seed: int, storage: Path, data_root: Path | None) -> Source:
    """Grey images of as many shades as the argument says, which are the classes: 6 of each in a split."""
    folder = storage / ".cache" / f"shades-{argument}"
    folder.mkdir(parents=True, exist_ok=True)
    num_classes = int(argument)
    random = np.random.default_rng(split_seed)
    records: dict[Any, Records] = {}
    for split in ("train", "val", "test"):
        labels = np.arange(6 * num_classes, dtype=np.int64) % num_classes
        paths = [folder / f"{split}-{index}.png" for index in range(len(labels))]
        for path, label in zip(paths, labels, strict=True):
            if not path.exists():
                grey = 250 * label // num_classes + random.integers(0, 30, (20, 24))
                Image.fromarray(grey.astype(np.uint8)).save(path)
        records[split] = Records(
            paths=[str(path.resolve()) for path in paths], members=np.full(len(labels), WHOLE_FILE), labels=labels
        )
    return Source(name=f"{argument} shades", classes=tuple(f"shade {k}" for k in range(num_classes)), records=records)


NO_BUILDER = "a text"


def build_nothing(*arguments: Any, **named: Any) -> None:
    """Returns neither a sampler nor a pruner nor a source."""
