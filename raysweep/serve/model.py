"""Answers for images, a batch at a time: what `predict` says of them, and a heat map of those that ask for one."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raysweep.cores import count_cores, keep_freed_memory
from raysweep.data.decode import decode_image
from raysweep.evaluate.stored_model import describe_model, load_best
from raysweep.predict import describe_batch
from raysweep.run_folder import RunFolder
from raysweep.tasks.classification.heat_map import compute_heat_maps
from raysweep.tasks.classification.labelling import load_labeller
from raysweep.tasks.classification.networks import Classifier

TOP_K = 3
"""Classes that an answer lists."""


@dataclass(frozen=True, slots=True)
class Query:
    """Holds a decoded image, and what is asked of it."""

    pixels: npt.NDArray[np.uint8]
    """(S, S, C)."""
    heat_map: bool = False


class ServedModel:
    """A run's best model and its detector, on a GPU where there is one."""

    def __init__(self, run_folder: RunFolder) -> None:
        """Loads the model.

        Raises:
            UsageError: the run has no best model, or its task gives no labels.
            CorruptFileError: the weights or the detector do not match their digest.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.labeller = load_labeller(run_folder, load_best(run_folder, self.device))
        self.name = run_folder.path.name
        self.lock = threading.Lock()

    def describe(self) -> dict[str, Any]:
        """Says which model this is, for the page and for whoever watches the server."""
        model = self.labeller.model
        return {
            "run": self.name,
            "model": describe_model(model),
            "classes": list(model.info.classes),
            "rejects": self.labeller.detector is not None,
        }

    def decode(self, content: bytes) -> npt.NDArray[np.uint8]:
        """Decodes the bytes of an image file to (S, S, C) as training did.

        Raises:
            UndecodableImage: they give no image.
        """
        config = self.labeller.model.config.data
        return decode_image(content, size=config.decoded_size, channels=config.channels, max_pixels=config.max_pixels)

    def answer(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """Says of each image what `predict_files` does with `top_k` of 3, and `heat_map` where it was asked for.

        A heat map is rows of numbers in [0, 1], for the likeliest class; it covers the whole image.
        """
        with self.lock:  # heat maps are recorded by hooks that all threads would run
            return self._answer(queries)

    def _answer(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        pixels = torch.from_numpy(np.stack([query.pixels for query in queries])).to(self.device)
        with torch.inference_mode():
            rows = [prediction.row for prediction in describe_batch(self.labeller, pixels, TOP_K)]
        asking = [index for index, query in enumerate(queries) if query.heat_map]
        if asking:
            network = self.labeller.network
            assert isinstance(network, Classifier)
            classes = self.labeller.model.info.classes
            likeliest = torch.tensor([classes.index(rows[index]["label"]) for index in asking], device=self.device)
            maps = compute_heat_maps(network, self.labeller.normalise(pixels[asking]), likeliest)
            for index, heat_map in zip(asking, maps, strict=True):
                rows[index]["heat_map"] = [[round(value, 4) for value in line] for line in heat_map.tolist()]
        return rows


def use_all_cores() -> None:
    """Gives torch the cores of this machine: Ray leaves one to each of its processes, and this one works alone."""
    torch.set_num_threads(count_cores())
    keep_freed_memory()
