"""Labels for image files, or a rejection, from a run's best model."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.data.batches import normalise_images
from raysweep.data.decode import UndecodableImage, decode_image
from raysweep.errors import UsageError
from raysweep.evaluate.stored_model import load_model
from raysweep.tasks.classification.rejection.detector import DETECTOR, Detector
from raysweep.tasks.classification.rejection.features import extract_features
from raysweep.tasks.classification.task import ClassificationTask
from raysweep.train import checkpoint


def predict_files(run: Path, paths: Iterable[Path]) -> list[dict[str, Any]]:
    """For each file its `image`, `label`, `confidence`, `score` and whether it is `rejected`, or an `error`.

    The score says how like the classes' images it is, higher is more; a rejected image is below the detector's
    `threshold`, and its label means nothing. Runs without a detector reject nothing and give no score.

    Raises:
        UsageError: the run has no best model, or its task gives no labels.
        CorruptFileError: the weights or the detector do not match their digest.
    """
    model = load_model(run / "best" / checkpoint.WEIGHTS, run / "best" / "config.json", torch.device("cpu"))
    if not isinstance(model.task, ClassificationTask):
        raise UsageError(f"{run} is a study of {model.config.task.kind}, which has no labels to predict")
    path_of_detector = run / "best" / DETECTOR
    detector = Detector.load(path_of_detector, model) if path_of_detector.is_file() else None
    data = model.config.data
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            pixels = decode_image(
                path.read_bytes(), size=data.decoded_size, channels=data.channels, max_pixels=data.max_pixels
            )
        except (UndecodableImage, OSError) as error:
            rows.append({"image": str(path), "error": str(error)})
            continue
        features = extract_features(model, normalise_images(np.asarray(pixels)[None], data, torch.device("cpu")))
        probabilities = features.logits[0].double().softmax(dim=0)
        label = int(probabilities.argmax())
        row = {
            "image": str(path),
            "label": model.info.classes[label],
            "confidence": float(probabilities[label]),
            "rejected": False,
        }
        if detector is not None:
            scores = detector.score_features(features)
            row |= {
                "score": float(scores[0]),
                "threshold": detector.threshold,
                "rejected": not bool(detector.accepts(scores)[0]),
            }
        rows.append(row)
    return rows
