"""Detects images that are none of a study's classes: by the best of several scores, and a threshold.

The score is chosen on outliers made from validation images, the threshold on validation images alone.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from raysweep import file_guard
from raysweep.atomic_files import Json
from raysweep.data.images import ImageSet, PreparedData
from raysweep.errors import CorruptFileError
from raysweep.evaluate.stored_model import StoredModel
from raysweep.tasks.classification.networks import Classifier
from raysweep.tasks.classification.rejection.features import (
    Features,
    extract_features,
    extract_from_pixels,
    extract_from_set,
    gather_batches,
)
from raysweep.tasks.classification.rejection.fitting import FitData, Score
from raysweep.tasks.classification.rejection.outliers import SYNTHETIC
from raysweep.tasks.classification.rejection.scores import CANDIDATES, SCORES
from raysweep.train import checkpoint

KEPT, CONFIDENCE = 0.95, 0.95
MAX_TRAIN, MAX_VAL = 5000, 20_000
NUM_SYNTHETIC = 1000
BLOCK = 100
LEAST_TOLD = 0.7
GROSS = ("rows shuffled", "grain", "faded")
LEAST_GROSS, LEAST_MEAN, LEAST_VAL = 0.95, 0.8, 100
"""Below these a detector is not to be trusted: AUROC on each kind of GROSS and on average, and validation images."""
REMEDY = "`raysweep evaluate RUN` fits a new one"


@dataclass(frozen=True, slots=True)
class Scored:
    """Holds what one pass over N images gives their report and a detector's."""

    logits: torch.Tensor
    """(N, num_classes) float32 on the CPU."""
    scores: torch.Tensor
    """(N,) float64, of a detector."""


@dataclass(frozen=True, slots=True)
class Detector:
    """Holds a score and its threshold for one classifier's weights."""

    name: str
    """Of the score, a key of `raysweep.tasks.classification.rejection.scores.SCORES`."""
    fitted: Score
    threshold: float
    """Images with a lower score are rejected."""
    facts: Json
    """`weights`: digest of the classifier's; `num_val`, `kept_val`: validation images and the share accepted;
    `synthetic`: AUROC of every candidate against every kind of outlier it was compared on, and their `mean`;
    `doubts`: why it cannot be trusted, a clause each."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Says why the detector cannot be trusted, a clause each; one of before has none."""
        return tuple(self.facts.get("doubts", ()))

    def tell_doubts(self) -> None:
        """Says on stderr why the detector cannot be trusted, where it cannot."""
        for doubt in self.doubts:
            print(f"warning: what is rejected cannot be trusted: {doubt}", file=sys.stderr)

    def score(self, model: StoredModel, images: torch.Tensor) -> torch.Tensor:
        """Scores (B,) float64 on the CPU of normalised images (B, C, H, W): higher is more real."""
        return self.score_features(extract_features(model, images))

    def score_features(self, features: Features) -> torch.Tensor:
        """Scores (B,) of features that a pass of the same classifier gave."""
        return self.fitted.score(features)

    def score_set(self, model: StoredModel, images: ImageSet) -> Scored:
        """Classifies and scores all images of a split in one pass, in order; features are kept of one batch only."""
        rows = np.arange(len(images))
        parts = [
            (features.logits, self.score_features(features))
            for pixels in gather_batches(images, rows, model.config.training.eval_batch_size)
            for features in [extract_from_pixels(model, [pixels])]
        ]
        return Scored(torch.cat([logits for logits, _ in parts]), torch.cat([scores for _, scores in parts]))

    def accepts(self, scores: torch.Tensor) -> torch.Tensor:
        """Says whether images with these scores are taken for one of the classes, (B,) bool."""
        return scores >= self.threshold

    def save(self, path: Path) -> None:
        """Writes the detector to a safetensors file, atomically."""
        facts = {"score": self.name, "threshold": self.threshold, **self.facts}
        checkpoint.save_tensors(path, self.fitted.state(), facts)

    @staticmethod
    def load(path: Path, model: StoredModel) -> "Detector":
        """Loads the detector in a file of `save`, for the classifier that it was fitted to.

        Raises:
            CorruptFileError: the file is damaged, or was fitted to other weights.
        """
        tensors, facts = checkpoint.load_tensors(path)
        with file_guard.guard(path, "what rejects images", REMEDY):
            if facts["weights"] != _digest_weights(model):
                raise ValueError(f"one that was fitted to other weights than those of trial {model.number} beside it")
            name, threshold = facts.pop("score"), facts.pop("threshold")
            return Detector(name, SCORES[name].from_state(tensors), float(threshold), facts)


def ensure_detector(path: Path, model: StoredModel, data: PreparedData) -> Detector:
    """Loads the detector in `path` where it was fitted to the model's weights, else fits one and keeps it there."""
    if path.is_file():
        try:
            return Detector.load(path, model)
        except CorruptFileError as error:
            print(f"a detector is fitted again: {error}", file=sys.stderr)
    detector = fit_detector(model, data)
    detector.save(path)
    return detector


def fit_detector(model: StoredModel, data: PreparedData, *, seed: int = 0) -> Detector:
    """Fits a detector on training features; score (see `choose_score`) and threshold come from validation images.

    Of many training images a seeded 5,000 are used, as many of each class as there are, and 20,000 for validation.
    """
    draw = np.random.default_rng(seed)
    rows = draw_by_class(data.train.labels, MAX_TRAIN, draw)
    val_rows = _draw_rows(len(data.val), MAX_VAL, draw)
    network = model.modules["model"]
    assert isinstance(network, Classifier)
    val = extract_from_set(model, data.val, val_rows)
    fit_data = FitData(
        train=extract_from_set(model, data.train, rows),
        labels=torch.from_numpy(data.train.labels[rows]),
        val=val,
        last=network.last_linear,
    )
    synthetic = _extract_synthetic(model, data.val, seed)
    candidates: dict[str, Score] = {name: fit_data.fit(SCORES[name]) for name in CANDIDATES}
    table = {name: _compare(candidate, val, synthetic) for name, candidate in candidates.items()}
    best = choose_score(table)
    scores = candidates[best].score(val)
    threshold = find_threshold(scores)
    facts = {
        "weights": _digest_weights(model),
        "num_val": len(val),
        "kept_val": float((scores >= threshold).double().mean()),
        "synthetic": table,
        "doubts": find_doubts(table[best], len(val)),
    }
    return Detector(best, candidates[best], threshold, facts)


def find_threshold(scores: torch.Tensor) -> float:
    """Finds the highest threshold that at least 95 % of all images of the classes reach, with a confidence of 95 %.

    A tolerance limit of images drawn as those of `scores` (N,) were (Wilks 1941, doi 10.1214/aoms/1177731788). Of fewer
    than 59 it is the lowest score, which promises less.
    """
    rejected = max(0, int(binom.ppf(1 - CONFIDENCE, len(scores), 1 - KEPT)) - 1)
    return float(scores.sort().values[rejected])


def measure_auroc(real: torch.Tensor, outliers: torch.Tensor) -> float:
    """Measures the probability that a real image's score is above an outlier's, ties counted as one half."""
    is_real = np.concatenate([np.ones(len(real)), np.zeros(len(outliers))])
    return float(roc_auc_score(is_real, torch.cat([real, outliers]).numpy()))


def _compare(candidate: Score, val: Features, synthetic: dict[str, Features]) -> dict[str, float]:
    real = candidate.score(val)
    areas = {kind: measure_auroc(real, candidate.score(features)) for kind, features in synthetic.items()}
    return {**areas, "mean": float(np.mean(list(areas.values())))}


def choose_score(table: dict[str, dict[str, float]]) -> str:
    """Chooses the candidate that tells its worst kind of outlier best, to 0.01; of equals the better on average.

    Kinds that no candidate tells decide nothing: there the differences are chance. `table` has the AUROC of each
    candidate by kind, and their `mean`.
    """
    kinds = [kind for kind in SYNTHETIC if max(areas[kind] for areas in table.values()) >= LEAST_TOLD]
    kinds = kinds or list(SYNTHETIC)
    return max(table, key=lambda name: (round(min(table[name][kind] for kind in kinds), 2), table[name]["mean"]))


def find_doubts(areas: dict[str, float], num_val: int) -> list[str]:
    """Says why a detector with these AUROC cannot be trusted, as far as validation images tell."""
    doubts = []
    if missed := [f"{kind} {areas[kind]:.2f}" for kind in GROSS if areas[kind] < LEAST_GROSS]:
        doubts.append(f"its AUROC is below {LEAST_GROSS:g} on what is no picture at all: {', '.join(missed)}")
    if areas["mean"] < LEAST_MEAN:
        doubts.append(
            f"its AUROC is {areas['mean']:.2f} on average, below {LEAST_MEAN:g}, on validation images spoilt so that "
            "they are of no class (cut up, mixed, inverted, ...)"
        )
    if num_val < LEAST_VAL:
        doubts.append(f"its threshold rests on {num_val} validation images, fewer than {LEAST_VAL}")
    return doubts


def _extract_synthetic(model: StoredModel, images: ImageSet, seed: int) -> dict[str, Features]:
    """Extracts features of each kind of outlier, made from the same validation images and others of other classes."""
    draw = np.random.default_rng([seed, 1])
    rows = _draw_rows(len(images), NUM_SYNTHETIC, draw)
    others = np.array([_draw_other(images.labels, row, draw) for row in rows])
    parts = np.array_split(np.arange(len(rows)), -(-len(rows) // BLOCK))  # blocks: images may be large
    return {
        kind: extract_from_pixels(
            model, (make(images.gather(rows[part]), images.gather(others[part]), draw) for part in parts)
        )
        for kind, make in SYNTHETIC.items()
    }


def _draw_other(labels: npt.NDArray[np.int64], row: int, draw: np.random.Generator) -> int:
    """Draws the row of an image of another class; of any, where there is but one class."""
    others = np.flatnonzero(labels != labels[row])
    return int(draw.choice(others if len(others) else np.arange(len(labels))))


def draw_by_class(labels: npt.NDArray[np.int64], most: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draws at most so many of the rows, in order, of each class equally many as far as it has them."""
    order = draw.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turns = np.arange(len(labels)) - starts  # which draw of its class a row is: all first ones come first
    return np.sort(by_class[np.argsort(turns, kind="stable")[:most]])


def _draw_rows(num_images: int, most: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draws at most so many of the rows, in order."""
    return np.sort(draw.permutation(num_images)[:most])


def _digest_weights(model: StoredModel) -> str:
    """Computes the SHA-256 of the classifier's weights."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.modules["model"].state_dict().items()}
    return checkpoint.digest_tensors(weights, "")
