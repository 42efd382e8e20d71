"""Defines the argument of a final evaluation: the models, the images of a run, and what its search found."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from raysweep.data.images import ImageSet, PreparedData
from raysweep.evaluate.part_clock import PartClock
from raysweep.evaluate.stored_model import StoredModel, describe_model
from raysweep.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalRun:
    """A finished search and its opened test split, for the function that its task names as `evaluation`.

    That function writes its texts and figures to `folder` and returns what results.json holds under `test`:
    `num_images`, `report` (the name of its main text), `headline` (a line or two for the terminal), `lift` with the
    `text` of a sentence that compares best and baseline, and its own figures.
    """

    best: StoredModel
    baseline: StoredModel | None
    """The best model again where the baseline is the best; none: the baseline failed."""
    baseline_failure: str | None = None
    """Why there is no baseline; none: there is one."""
    test: ImageSet
    data: PreparedData
    """Training and validation images: whatever is chosen or fitted is so on these."""
    run_folder: RunFolder
    folder: Path
    """Where the evaluation writes."""
    data_root: Path | None
    """A folder that may hold other data sets, mnist/ for one."""
    seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Numbers of the trainings of finalists, all complete, that have the configuration of the `best` and of the
    `baseline` model; empty: there are none."""
    histories: Mapping[str, list[dict[str, float]]]
    """Metrics of each epoch of the best trial and the baseline, by their titles."""
    note: str
    """Stands at the foot of every text and figure; may be empty."""
    clock: PartClock = field(default_factory=PartClock)
    """Keeps how long each part takes."""

    def part(self, name: str) -> AbstractContextManager[None]:
        """Shows what is done inside it as the part `name` of the evaluation; results.json says how long it took."""
        return self.clock.part(name)

    @property
    def rival(self) -> StoredModel | None:
        """The baseline where it can be compared with the best model: it is another one and has not failed."""
        return None if self.baseline is None or self.baseline.number == self.best.number else self.baseline

    def explain_no_lift(self) -> str:
        """Says in a sentence why there is no rival, and so no lift."""
        if self.baseline is None:
            return f"the baseline failed, so that no lift is stated: {self.baseline_failure}"
        return f"the best trial is the baseline: no lift (n = {len(self.test)} test images)"

    def describe_baseline(self) -> str:
        """Names the baseline's model, or its failure, for texts."""
        if self.baseline is None:
            return f"failed: {self.baseline_failure}"
        return describe_model(self.baseline)
