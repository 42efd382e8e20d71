"""What a trial is told: task, data and training at one point of the space."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysweep import config_fields, own_code
from raysweep.atomic_files import Json
from raysweep.config import DataConfig, TrainingConfig, require
from raysweep.registry import describe_reference
from raysweep.task_config import TaskConfig, load_task_config
from raysweep.tasks import TASKS


def check_mixing(task: TaskConfig, data: DataConfig) -> None:
    """Raises ValueError where images are to be mixed for a task that has no use for their mixed labels."""
    for name in ("mixup", "cutmix"):
        amount = getattr(data.augmentation, name)
        rule = f"data.augmentation.{name} must be 0 in a study of {task.kind}, whose loss takes no mixed labels"
        require(task.takes_mixed_labels or amount == 0, rule, amount)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialConfig:
    """The study's task, data and training with one sampled point applied, plus the trial's seed."""

    task: TaskConfig
    data: DataConfig
    training: TrainingConfig
    seed: int = 0

    def __post_init__(self) -> None:
        check_mixing(self.task, self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as JSON: the class of a task in a file by path cannot be imported by name in another process.

        With it go files of networks and the like, which may be on no other host.
        """
        return _unpickle, (self.to_json(), own_code.pack_files(self.task.code_references))

    def to_json(self) -> Json:
        """Returns plain JSON values; `from_json` takes them back."""
        return {
            "task": {
                "kind": describe_reference(TASKS, type(self.task), self.task.kind),
                **config_fields.to_json(self.task),
            },
            "data": config_fields.to_json(self.data),
            "training": config_fields.to_json(self.training),
            "seed": self.seed,
        }

    @staticmethod
    def from_json(values: Json, *, trusted: bool = False) -> "TrialConfig":
        """Builds the configuration stored by `to_json`; `trusted`: it does not come from a run's folder.

        Raises:
            UsageError: the values are not a valid configuration.
        """
        task, seed = dict(values["task"]), values["seed"]
        require(isinstance(seed, int), "a seed must be a whole number", seed)
        return TrialConfig(
            task=load_task_config(task.pop("kind"), task, trusted=trusted),
            data=config_fields.from_json(DataConfig, values["data"]),
            training=config_fields.from_json(TrainingConfig, values["training"]),
            seed=seed,
        )


def _unpickle(values: Json, sources: Mapping[str, bytes]) -> TrialConfig:
    own_code.unpack_files(sources)
    return TrialConfig.from_json(values, trusted=True)
