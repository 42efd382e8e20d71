"""Compares what an exported file computes with what the model computes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raysweep.errors import ExportError
from raysweep.export.graph import Graph
from raysweep.export.onnx_file import Arrays, Compute

NUM_ROWS = 100
"""Images, or draws of noise, that an export is checked on."""
BATCH_SIZE = 25
LIMITS = {"index": 0.02, "accepted": 0.02, "score": 0.1, "images": 1.0}
"""Largest difference that is taken, of others TOLERANCE: the share of rows with another answer, as some are at the edge
of two; of the score, which detectors make of tiny differences too, relative to its deviation; of pixels in levels."""
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Parity:
    """Says how far an export is from its model."""

    num_rows: int
    largest: dict[str, float]
    """Of each output, in the unit of its limit."""

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
    own: list[list[npt.NDArray[Any]]] = []
    others: list[list[npt.NDArray[Any]]] = []
    for batch in _split(inputs, num_rows):
        with torch.inference_mode():
            own.append([part.numpy() for part in graph.module(*map(torch.from_numpy, batch.values()))])
        said = compute(batch)
        others.append([said[name] for name in graph.outputs])
    largest = {
        name: _measure(name, np.concatenate(expected), np.concatenate(got))
        for name, expected, got in zip(graph.outputs, zip(*own, strict=True), zip(*others, strict=True), strict=True)
    }
    for name, value in largest.items():
        limit = LIMITS.get(name, TOLERANCE)
        if not value <= limit:
            raise ExportError(
                f"the export must compute what the model computes, got a difference of {value:.3g} in {name} on "
                f"{num_rows} rows, and at most {limit:g} is taken; it was not kept"
            )
    return Parity(num_rows, largest)


def _split(inputs: Arrays, num_rows: int) -> Iterable[Arrays]:
    for start in range(0, num_rows, BATCH_SIZE):
        yield {name: np.ascontiguousarray(values[start : start + BATCH_SIZE]) for name, values in inputs.items()}


def _measure(name: str, expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Measures the largest difference of an output, or the share of rows with another answer; no two NaN differ.

    Raises:
        ExportError: shape or type is another.
    """
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ExportError(
            f"the export must give {name} as {expected.dtype} {expected.shape}, got {got.dtype} {got.shape}"
        )
    if expected.dtype in (np.bool_, np.int64):
        return float((got != expected).mean())
    left, right = expected.astype(np.float64), got.astype(np.float64)
    unit = max(float(left.std()), 1e-6) if name == "score" else 1.0
    difference = np.where(np.isnan(left) & np.isnan(right), 0.0, np.abs(left - right) / unit)
    return float(difference.max(initial=0.0))
