"""Compares what an exported file computes with what the model computes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from raysweep.errors import ExportError
from raysweep.export.graph import Graph
from raysweep.export.onnx_file import Arrays, Compute

NUM_ROWS = 100
"""Images, or draws of noise, that an export is checked on."""
BATCH_SIZE = 25
TOLERANCE = 1e-3
"""Largest difference of a real number, relative where it is above 1."""
MAX_LEVELS = 1
"""Largest difference of a pixel."""
MAX_FLIPS = 0.02
"""Largest share of rows whose class, or whether they are accepted, is another: rows at the edge of two answers."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Says how far an export is from its model."""

    num_rows: int
    largest: dict[str, float]
    """Largest difference of each output, relative where the number is above 1; of classes the number of rows."""

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value:.2g}" for name, value in self.largest.items())
        return f"largest differences on {self.num_rows}: {parts}"


def draw_inputs(graph: Graph, num_rows: int = NUM_ROWS, seed: int = 0) -> Arrays:
    """Draws what a generator takes: normal noise, and labels in turn."""
    draw = np.random.default_rng(seed)
    return {
        name: draw.standard_normal((num_rows, *example.shape[1:])).astype(np.float32)
        if example.is_floating_point()
        else np.arange(num_rows, dtype=np.int64) % max(1, int(graph.facts.get("num_classes", 1)))
        for name, example in graph.inputs.items()
    }


def measure_parity(graph: Graph, compute: Compute, inputs: Arrays) -> Parity:
    """Computes the same rows, by batches, with the model and with its export.

    Raises:
        ExportError: they differ by more than rounding explains.
    """
    num_rows = len(next(iter(inputs.values())))
    largest = dict.fromkeys(graph.outputs, 0.0)
    for batch in _split(inputs, num_rows):
        with torch.inference_mode():
            own = graph.module(*(torch.from_numpy(batch[name]) for name in graph.inputs))
        other = compute(batch)
        for name, expected in zip(graph.outputs, own, strict=True):
            _add_difference(largest, name, expected.numpy(), other[name])
    for name, value in largest.items():
        limit = _limit(graph, name, num_rows)
        if not value <= limit:
            raise ExportError(
                f"the export must compute what the model computes, got a difference of {value:.3g} in {name} on "
                f"{num_rows} rows, and at most {limit:.3g} is taken; it was not kept"
            )
    return Parity(num_rows, largest)


def _split(inputs: Arrays, num_rows: int) -> Iterable[Arrays]:
    for start in range(0, num_rows, BATCH_SIZE):
        yield {name: np.ascontiguousarray(values[start : start + BATCH_SIZE]) for name, values in inputs.items()}


def _add_difference(
    largest: dict[str, float], name: str, expected: np.ndarray[tuple[int, ...], np.dtype[np.generic]], got: object
) -> None:
    """Takes the differences of a batch into the largest so far; both NaN is no difference."""
    values = np.asarray(got)
    if values.shape != expected.shape or values.dtype != expected.dtype:
        raise ExportError(
            f"the export must give {name} as {expected.dtype} {expected.shape}, got {values.dtype} {values.shape}"
        )
    if expected.dtype in (np.bool_, np.int64):
        largest[name] += float((values != expected).sum())
        return
    left, right = expected.astype(np.float64), values.astype(np.float64)
    same = np.isnan(left) & np.isnan(right)
    scale = 1.0 if expected.dtype == np.uint8 else np.maximum(1.0, np.abs(left))
    difference = np.where(same, 0.0, np.abs(left - right) / scale)
    largest[name] = max(largest[name], float(difference.max(initial=0.0)))


def _limit(graph: Graph, name: str, num_rows: int) -> float:
    """Returns the largest difference of an output that is taken."""
    if name in ("index", "accepted"):
        return MAX_FLIPS * num_rows
    return MAX_LEVELS if not graph.takes_images and name == "images" else TOLERANCE
