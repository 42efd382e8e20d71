"""Hyperparameter search for image models on a Ray cluster.

    import raysweep
    run = raysweep.tune("fashion_cnn", trials=20)

Each public name is imported from its module when it is first asked for: `import raysweep` costs nothing.
"""

from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from raysweep.api import Run as Run
    from raysweep.api import load_run as load_run
    from raysweep.api import plan as plan
    from raysweep.api import tune as tune
    from raysweep.config import AugmentationConfig as AugmentationConfig
    from raysweep.config import Budget as Budget
    from raysweep.config import DataConfig as DataConfig
    from raysweep.config import Objective as Objective
    from raysweep.config import TrainingConfig as TrainingConfig
    from raysweep.data.batches import Batch as Batch
    from raysweep.data.batches import Worker as Worker
    from raysweep.data.batches import iterate_evaluation as iterate_evaluation
    from raysweep.data.records import WHOLE_FILE as WHOLE_FILE
    from raysweep.data.records import Records as Records
    from raysweep.data.records import Source as Source
    from raysweep.distributions import When as When
    from raysweep.errors import DataError as DataError
    from raysweep.errors import RaysweepError as RaysweepError
    from raysweep.errors import StorageError as StorageError
    from raysweep.errors import StudyFailedError as StudyFailedError
    from raysweep.errors import TrialError as TrialError
    from raysweep.errors import UsageError as UsageError
    from raysweep.evaluate.final_run import FinalRun as FinalRun
    from raysweep.registry import load_object as load_object
    from raysweep.run_folder import SearchFolder as SearchFolder
    from raysweep.search.observer import Observer as Observer
    from raysweep.study import Study as Study
    from raysweep.task_config import Metric as Metric
    from raysweep.task_config import TaskConfig as TaskConfig
    from raysweep.tasks.autoencoder.config import AutoencoderConfig as AutoencoderConfig
    from raysweep.tasks.classification.config import ClassificationConfig as ClassificationConfig
    from raysweep.tasks.gan.config import GanConfig as GanConfig
    from raysweep.tasks.gan.noise import NoiseSchedule as NoiseSchedule
    from raysweep.train.metrics import Sums as Sums
    from raysweep.train.state import TrainState as TrainState
    from raysweep.train.task import Task as Task
    from raysweep.trial_result import TrialResult as TrialResult

_NAMES = {
    "raysweep.api": ("Run", "load_run", "plan", "tune"),
    "raysweep.config": ("AugmentationConfig", "Budget", "DataConfig", "Objective", "TrainingConfig"),
    "raysweep.data.batches": ("Batch", "Worker", "iterate_evaluation"),
    "raysweep.data.records": ("WHOLE_FILE", "Records", "Source"),
    "raysweep.distributions": ("When",),
    "raysweep.errors": ("DataError", "RaysweepError", "StorageError", "StudyFailedError", "TrialError", "UsageError"),
    "raysweep.evaluate.final_run": ("FinalRun",),
    "raysweep.search.observer": ("Observer",),
    "raysweep.study": ("Study",),
    "raysweep.task_config": ("Metric", "TaskConfig"),
    "raysweep.tasks.autoencoder.config": ("AutoencoderConfig",),
    "raysweep.tasks.classification.config": ("ClassificationConfig",),
    "raysweep.tasks.gan.config": ("GanConfig",),
    "raysweep.tasks.gan.noise": ("NoiseSchedule",),
    "raysweep.registry": ("load_object",),
    "raysweep.run_folder": ("SearchFolder",),
    "raysweep.train.metrics": ("Sums",),
    "raysweep.train.state": ("TrainState",),
    "raysweep.train.task": ("Task",),
    "raysweep.trial_result": ("TrialResult",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [*_MODULES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:  # for a type checker a name that is not above is an error

    def __getattr__(name: str) -> object:
        """Imports a public name from its module."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Lists the public names, imported or not, beside what is there."""
    return sorted({*globals(), *__all__})
