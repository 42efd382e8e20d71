"""Learning curves of LCBench tasks (YAHPO Gym's surrogate), and a study whose space is LCBench's."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from _report import give_up
from optuna.distributions import FloatDistribution, IntDistribution

from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.study import Study
from raysweep.task_config import Metric, TaskConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray


NUM_EPOCHS = 52
DEVELOPMENT_TASKS = (
    *("3945", "34539", "126026", "146212", "167149", "167161", "167181", "167185", "167200", "168329"),
    *("168331", "168868", "168910", "189862", "189866", "189905", "189908"),
)
"""The other tasks are for judging what was developed on these."""
INPUTS = (
    "training.batch_size",
    "task.learning_rate",
    "task.momentum",
    "task.weight_decay",
    "task.num_layers",
    "task.max_units",
    "task.max_dropout",
)
"""The surrogate's inputs in its order, after the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LCBenchConfig(TaskConfig):
    """What LCBench varies of its small networks, beside the batch size. There is nothing to train."""

    kind: ClassVar[str] = "lcbench"

    learning_rate: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 0.05
    num_layers: int = 3
    max_units: int = 256
    max_dropout: float = 0.5

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Declares the surrogate's figure."""
        return (Metric("val/accuracy", "maximize", "share of images, 0 to 1"),)


def build_study(trials: int, seed: int) -> Study:
    """LCBench's space, validation accuracy, 52 epochs a trial."""
    return Study(
        name="lcbench",
        task=LCBenchConfig(),
        data=DataConfig(),
        training=TrainingConfig(epochs=NUM_EPOCHS, batch_size=91),
        space={
            "training.batch_size": IntDistribution(16, 512, log=True),
            "task.learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
            "task.momentum": FloatDistribution(0.1, 0.99),
            "task.weight_decay": FloatDistribution(1e-5, 1e-1),
            "task.num_layers": IntDistribution(1, 5),
            "task.max_units": IntDistribution(64, 1024, log=True),
            "task.max_dropout": FloatDistribution(0.0, 1.0),
        },
        objective=Objective(metric="val/accuracy"),
        budget=Budget(trials=trials),
        seed=seed,
    )


class LCBench:
    """A task of the surrogate: a configuration's accuracy after each epoch, and how long each epoch takes."""

    build_study = staticmethod(build_study)

    def __init__(self, folder: Path, task: str) -> None:
        try:
            import onnxruntime
        except ImportError:
            give_up("this benchmark runs LCBench's surrogate with onnxruntime: pip install onnxruntime")
        for name in ("model.onnx", "encoding.json"):
            if not (folder / name).is_file():
                give_up(f"{folder} must be YAHPO Gym's lcbench folder, with {name}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._code: int = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"][task]
        self.mean_epoch_s = self._mean_epoch_s()

    def load(self, params: dict[str, Any]) -> tuple["NDArray[np.float64]", "NDArray[np.float64]"]:
        """Validation accuracy in percent after each epoch, and the seconds that each epoch takes: (52,) both."""
        epochs = np.arange(1, NUM_EPOCHS + 1)
        inputs = np.column_stack([epochs, np.tile([float(params[key]) for key in INPUTS], (NUM_EPOCHS, 1))])
        code = np.full((NUM_EPOCHS, 1), self._code, dtype=np.int32)
        (outputs,) = self._session.run(None, {"x_cat": code, "x_cont": inputs.astype(np.float32)})
        clock = np.maximum.accumulate(np.maximum(outputs[:, 0], 1e-3).astype(float))
        return outputs[:, 1].astype(float), np.diff(clock, prepend=0.0) + 1e-3

    def _mean_epoch_s(self) -> float:
        """Mean seconds of an epoch over 100 seeded random configurations."""
        random = np.random.default_rng(0)
        total = 0.0
        for _ in range(100):
            point = {}
            for key, distribution in build_study(1, 0).space.items():
                assert isinstance(distribution, FloatDistribution | IntDistribution)
                low, high = distribution.low, distribution.high
                value = random.uniform(np.log(low), np.log(high)) if distribution.log else random.uniform(low, high)
                point[key] = np.exp(value) if distribution.log else value
            total += self.load(point)[1].sum()
        return total / (100 * NUM_EPOCHS)
