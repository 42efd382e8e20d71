"""Draws heat maps of test images for the report: what spoke for the class that was predicted, and for the true one."""

import numpy as np
import numpy.typing as npt
import torch

from raysweep.atomic_files import Json
from raysweep.data.batches import normalise_images
from raysweep.data.images import ImageSet
from raysweep.evaluate.stored_model import StoredModel
from raysweep.evaluate.thumbnails import encode_thumbnail, overlay_heat
from raysweep.tasks.classification.examples import Predictions
from raysweep.tasks.classification.heat_map import compute_heat_maps
from raysweep.tasks.classification.networks import Classifier


def draw_heat_maps(
    model: StoredModel, images: ImageSet, predictions: Predictions, rows: npt.NDArray[np.int64]
) -> list[Json]:
    """Draws a map of each image for its predicted class and, where that is another, for its true one.

    Returns `row`, `class` and `picture` of each, a `data:` URI.
    """
    network, pixels = model.modules["model"], images.gather(rows)
    assert isinstance(network, Classifier)
    device = next(network.parameters()).device
    wanted = [
        (place, chosen)
        for place, row in enumerate(rows)
        for chosen in dict.fromkeys((predictions.predicted[row], predictions.labels[row]))
    ]
    batch = normalise_images(pixels[[place for place, _ in wanted]], model.config.data, device)
    classes = torch.tensor([int(chosen) for _, chosen in wanted], device=device)
    maps = compute_heat_maps(network, batch, classes).numpy()
    return [
        {
            "row": int(rows[place]),
            "class": model.info.classes[chosen],
            "picture": encode_thumbnail(overlay_heat(pixels[place], heat)),
        }
        for (place, chosen), heat in zip(wanted, maps, strict=True)
    ]
