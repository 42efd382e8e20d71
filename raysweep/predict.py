"""Labels for image files, from a run's best model."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysweep.data.batches import normalise_images
from raysweep.data.decode import UndecodableImage, decode_image
from raysweep.errors import UsageError
from raysweep.evaluate.stored import load_model
from raysweep.tasks.classification import ClassificationTask
from raysweep.train import checkpoint


def predict_files(run: Path, paths: Iterable[Path]) -> list[dict[str, Any]]:
    """For each file its `image`, `label` and `confidence`, or an `error`.

    Raises:
        UsageError: the run has no best model, or its task gives no labels.
    """
    model = load_model(run / "best" / checkpoint.WEIGHTS, run / "best" / "config.json", torch.device("cpu"))
    if not isinstance(model.task, ClassificationTask):
        raise UsageError(f"{run} is a study of {model.config.task.kind}, which has no labels to predict")
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
        logits = model.task.predict(
            model.modules["model"], normalise_images(np.asarray(pixels)[None], data, torch.device("cpu"))
        )
        probabilities = logits[0].double().softmax(dim=0)
        label = int(probabilities.argmax())
        rows.append(
            {
                "image": str(path),
                "label": model.info.classes[label],
                "confidence": float(probabilities[label]),
            }
        )
    return rows
