"""Labels for image files, or a rejection, from a run's best model."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.data.batches import normalise_images
from raysweep.data.decode import UndecodableImage, decode_image, read_image_file
from raysweep.errors import UsageError
from raysweep.evaluate.stored_model import load_best
from raysweep.run_folder import RunFolder
from raysweep.tasks.classification.rejection.detector import Detector
from raysweep.tasks.classification.rejection.features import extract_features
from raysweep.tasks.classification.task import ClassificationTask


def predict_files(run_folder: RunFolder, paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Returns for each file its `image`, `label`, `confidence`, `score` and whether it is `rejected`, or an `error`.

    The score says how like the classes' images it is, higher is more; a rejected image is below the detector's
    `threshold`, and its label means nothing. Runs without a detector reject nothing and give no score. `trusted` is
    false where the detector has doubts of itself, which stderr is told.

    Raises:
        UsageError: the run has no best model, or its task gives no labels.
        CorruptFileError: the weights or the detector do not match their digest.
    """
    best = run_folder.best
    model = load_best(run_folder, torch.device("cpu"))
    if not isinstance(model.task, ClassificationTask):
        raise UsageError(f"{run_folder.path} is a study of {model.config.task.kind}, which has no labels to predict")
    detector = Detector.load(best.detector, model) if best.detector.is_file() else None
    if detector is not None:
        detector.tell_doubts()
    data = model.config.data
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            pixels = decode_image(
                read_image_file(path, data.max_pixels),
                size=data.decoded_size,
                channels=data.channels,
                max_pixels=data.max_pixels,
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
                "trusted": not detector.doubts,
            }
        rows.append(row)
    return rows
