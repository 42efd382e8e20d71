"""Defines the argument of a final evaluation: the models, the images of a run, and what its search found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raysweep.data.images import ImageSet, PreparedData
from raysweep.evaluate.stored_model import StoredModel
from raysweep.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalRun:
    """A finished search and its opened test split, for the function that its task names as `evaluation`.

    That function writes its texts and figures to `folder` and returns what results.json holds under `test`:
    `num_images`, `report` (the name of its main text), `headline` (a line or two for the terminal), `lift` with the
    `text` of a sentence that compares best and baseline, and its own figures.
    """

    best: StoredModel
    baseline: StoredModel
    """The best model again where the baseline is the best, or has failed."""
    test: ImageSet
    data: PreparedData
    """Training and validation images: whatever is chosen or fitted is so on these."""
    run_folder: RunFolder
    folder: Path
    """Where the evaluation writes."""
    data_root: Path | None
    """A folder that may hold other data sets, mnist/ for one."""
    histories: Mapping[str, list[dict[str, float]]]
    """Metrics of each epoch of the best trial and the baseline, by their titles."""
    note: str
    """Stands at the foot of every text and figure; may be empty."""
