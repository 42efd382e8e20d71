"""What a task declares of itself in its configuration, and how that is built from a stored one."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from raysweep import config_fields, own_code
from raysweep.atomic_files import Json
from raysweep.config import require
from raysweep.errors import UsageError
from raysweep.tasks import TASKS

if TYPE_CHECKING:
    from raysweep.data.images import PreparedData

TRUST = "where you know who wrote it, say --trust-code (from Python trust_code=True)"


@dataclass(frozen=True, slots=True)
class Metric:
    """Declares a figure that trials report of each epoch: for objectives, reports, the live table and trackers."""

    name: str
    """`val/NAME`, of the validation images, or `train/NAME`, a mean over the training images of the epoch."""
    direction: Literal["maximize", "minimize"] | None
    """Which values are better; none: neither."""
    meaning: str
    """One line, with its unit or range."""
    live: bool = False
    """Whether the live table shows it beside the objectives."""

    def __post_init__(self) -> None:
        require(self.name.startswith(("val/", "train/")), "a metric is val/NAME or train/NAME", self.name)


class TaskConfig:
    """Base of the configurations of tasks: frozen dataclasses that import neither torch nor Ray."""

    __slots__ = ()
    kind: ClassVar[str]
    """Names the task in stored configurations."""
    task: ClassVar[str]
    """Reference of the task's class, a raysweep.train.task.Task."""
    evaluation: ClassVar[str]
    """Reference of the function that evaluates its best model on the test images; see FinalRun."""

    needs_classes: ClassVar[bool] = False
    """Whether images without labels are refused."""
    graph: ClassVar[str | None] = None
    """Reference of the function that builds what `export` writes of its model, a raysweep.export.graph.Graph of a
    StoredModel and the run's folder; none: it cannot be exported."""
    report_sections: ClassVar[str | None] = None
    """Reference of the function that makes the report's sections on the test images, a raysweep.report.section
    SectionBuilder; none: there are none."""
    code_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that may name code of one's own; see raysweep.own_code."""
    input_fields: ClassVar[tuple[str, ...]] = ()
    """Fields whose choices in a space are all looked at before a search: by `check_available` and `fetch`."""
    takes_mixed_labels: ClassVar[bool] = False
    """Whether its loss reads `Batch.mixing`: only then may images be mixed."""
    test_scores: ClassVar[str | None] = None
    """Reference of the function that tells `compare` how a run did on its test images: takes its folder and results,
    returns raysweep.evaluate.test_scores.TestScores; none: the objective's test figure is compared."""
    advice_on_divergence: ClassVar[str] = "a lower learning rate may help"
    """Ends the message of a trial whose metrics are no longer finite; the fields that it names exist."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Declares all that a trial of this configuration reports; what the task computes must agree."""
        raise NotImplementedError(f"{type(self).__name__} must declare its metrics")

    @property
    def reported_metrics(self) -> frozenset[str]:
        """Lists what an objective may name: the metrics of validation images, `val/NAME`."""
        return frozenset(metric.name for metric in self.metrics if metric.name.startswith("val/"))

    @property
    def comparison_group(self) -> Hashable:
        """Names the group whose best model is kept for the final evaluation, which compares groups; none: of none."""
        return None

    @property
    def code_references(self) -> tuple[str, ...]:
        """Lists the code of one's own that the configuration names."""
        return tuple(filter(own_code.is_reference, (getattr(self, name) for name in self.code_fields)))

    def check_available(self) -> None:
        """Fails in the driver, quickly and with a UsageError, on what would fail every trial."""

    def fetch(self, cache: Path) -> Mapping[str, Mapping[str, str]]:
        """Fetches what trials begin from into the `cache` that all nodes share; returns what identifies it, by field.

        Raises:
            UsageError: it cannot be had.
        """
        return {}

    def prepare(self, data: "PreparedData") -> None:
        """Makes, once in the driver, what all trials share beside their images."""


def load_task_config(kind: str, values: Json, *, trusted: bool = False) -> TaskConfig:
    """Builds the configuration of the task `kind` from JSON values; `trusted`: they do not come from a run's folder.

    Raises:
        UsageError: there is no such task, it is code that may not be run, or the values are not a valid configuration.
    """
    if not trusted:
        TASKS.refuse_foreign(kind, TRUST)
    loaded = TASKS.load(kind)
    if not (isinstance(loaded, type) and issubclass(loaded, TaskConfig) and is_dataclass(loaded)):
        raise UsageError(f"a task's configuration must be a dataclass on raysweep.TaskConfig, got {kind}")
    config: TaskConfig = config_fields.from_json(loaded, values)
    if trusted:
        own_code.trust(config.code_references)
    own_code.refuse_untrusted(config.code_references, TRUST)
    return config
