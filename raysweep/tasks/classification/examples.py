"""Chooses test images to look at, and keeps them small in one file: errors, refusals, wrong labels, heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from raysweep import atomic_files
from raysweep.atomic_files import Json
from raysweep.data.images import ImageSet
from raysweep.evaluate.thumbnails import encode_thumbnail
from raysweep.tasks.classification.label_issues import find_label_issues

FILE = "examples.json"
ISSUES = "label_issues.csv"
NUM_ERRORS = 24
NUM_REFUSED = 12
NUM_ISSUES = 24
NUM_HEAT_MAPS = 8
PER_CELL, NUM_CELL_IMAGES = 4, 120
"""Images of a cell of the confusion matrix, and of all cells, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Holds what the best model says of N test images."""

    labels: npt.NDArray[np.int64]
    """(N,)."""
    probabilities: npt.NDArray[np.float64]
    """(N, C)."""
    accepted: npt.NDArray[np.bool_]
    """(N,): taken for one of the classes."""
    scores: npt.NDArray[np.float64]
    """(N,), of the detector: lower is less like the classes."""

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Returns the likeliest class (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """Returns the probability (N,) of the likeliest class."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)

    @property
    def true_probability(self) -> npt.NDArray[np.float64]:
        """Returns the probability (N,) of the true class."""
        return np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)[:, 0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Holds the rows of the test images that are chosen, by what they are shown for."""

    worst: npt.NDArray[np.int64]
    refused: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    looked_into: npt.NDArray[np.int64]
    """For a heat map."""
    label_issues: npt.NDArray[np.int64] | None
    """All whose label is suspected, the most suspect first; None: `cleanlab` is not installed."""

    def list_rows(self) -> npt.NDArray[np.int64]:
        """Lists the rows of all images that are kept, each once, in order."""
        issues = self.label_issues[:NUM_ISSUES] if self.label_issues is not None else self.worst
        return np.unique(np.concatenate([self.worst, self.refused, self.cells, self.looked_into, issues]))


def choose_examples(predictions: Predictions) -> Choice:
    """Chooses the test images that a person would want to see."""
    refused = np.flatnonzero(~predictions.accepted)
    worst = choose_errors(predictions)
    return Choice(
        worst=worst,
        refused=refused[np.argsort(predictions.scores[refused], kind="stable")][:NUM_REFUSED],
        cells=choose_cells(predictions),
        looked_into=_choose_for_heat(predictions, worst),
        label_issues=find_label_issues(predictions.labels, predictions.probabilities),
    )


def save_examples(
    folder: Path,
    images: ImageSet,
    classes: Sequence[str],
    predictions: Predictions,
    choice: Choice,
    heat_maps: Sequence[Json],
) -> None:
    """Writes the chosen images as `data:` URIs, with what they are shown for; suspected labels as a table, too.

    heat_maps: `row`, `class` and `picture` of each, a `data:` URI.
    """
    rows, issues = choice.list_rows(), choice.label_issues
    predicted, confidence, truth = predictions.predicted, predictions.confidence, predictions.true_probability
    values: Json = {
        "images": [
            {
                "row": int(row),
                "true": classes[predictions.labels[row]],
                "predicted": classes[predicted[row]],
                "confidence": round(float(confidence[row]), 4),
                "true_probability": round(float(truth[row]), 4),
                "picture": encode_thumbnail(pixels),
            }
            for row, pixels in zip(rows, images.gather(rows), strict=True)
        ],
        "worst": choice.worst.tolist(),
        "refused": choice.refused.tolist(),
        "label_issues": None if issues is None else {"num_found": len(issues), "rows": issues[:NUM_ISSUES].tolist()},
        "heat_maps": list(heat_maps),
    }
    atomic_files.write_json(folder / FILE, values, checksum=True)
    if issues is not None:
        frame = pd.DataFrame(
            {
                "image": [images.names[row] for row in issues],
                "label": [classes[label] for label in predictions.labels[issues]],
                "suggested": [classes[label] for label in predicted[issues]],
                "probability_of_label": truth[issues],
            }
        )
        atomic_files.write_text(folder / ISSUES, frame.to_csv(index=False, float_format="%.6f"))


def choose_errors(predictions: Predictions) -> npt.NDArray[np.int64]:
    """Chooses the errors with the highest loss: the true class was given the lowest probability."""
    errors = np.flatnonzero(predictions.predicted != predictions.labels)
    return errors[np.argsort(predictions.true_probability[errors], kind="stable")][:NUM_ERRORS]


def choose_cells(predictions: Predictions) -> npt.NDArray[np.int64]:
    """Chooses images of each cell of the confusion matrix, where there is room for all: else of the fullest.

    Of errors the surest come first, of what is right the least sure.
    """
    right = predictions.predicted == predictions.labels
    frame = pd.DataFrame({"true": predictions.labels, "predicted": predictions.predicted, "right": right})
    frame["rank"] = np.where(right, predictions.confidence, -predictions.confidence)
    frame = frame.sort_values("rank", kind="stable")
    cell = frame.groupby(["true", "predicted"])
    frame["turn"], frame["fill"] = cell.cumcount(), -cell["true"].transform("size")
    frame = frame[frame["turn"] < PER_CELL].sort_values(["turn", "right", "fill"], kind="stable")
    return frame.index.to_numpy(np.int64)[:NUM_CELL_IMAGES]


def _choose_for_heat(predictions: Predictions, worst: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Chooses the worst errors and, as many, evenly spaced images that are right."""
    right = np.flatnonzero(predictions.predicted == predictions.labels)
    errors = worst[: NUM_HEAT_MAPS // 2]
    places = np.linspace(0, len(right) - 1, min(len(right), NUM_HEAT_MAPS - len(errors))).round().astype(np.int64)
    return np.concatenate([errors, right[places]])
