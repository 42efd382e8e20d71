"""Writes a graph as a folder of its own: a program and weights, for which torch and Pillow are enough."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from raysweep import atomic_files
from raysweep.errors import UsageError
from raysweep.export.graph import Graph
from raysweep.export.onnx_file import Arrays, Compute, trace

GRAPH, FACTS = "model.pt2", "model.json"
PROGRAMS = Path(__file__).parent


def write_standalone(folder: Path, graph: Graph, facts: Mapping[str, str]) -> None:
    """Writes program, graph and facts to a new or an empty folder, or over an earlier export.

    Raises:
        UsageError: the folder holds something else.
        ExportError: torch cannot trace the model.
        StorageError: the storage does not take it.
    """
    program = "predict.py" if graph.takes_images else "generate.py"
    check_folder(folder)
    traced = trace(graph)

    def save(temporary: Path) -> None:
        with warnings.catch_warnings(), temporary.open("wb") as file:
            warnings.simplefilter("ignore")
            torch.export.save(traced, file)

    atomic_files.write_atomically(folder / GRAPH, save)
    content = {**facts, **graph.facts, "outputs": graph.outputs, "classes": graph.classes, "usage": graph.usage}
    atomic_files.write_json(folder / FACTS, {**content, "torch": torch.__version__})
    atomic_files.copy_file(PROGRAMS / program, folder / program)


def check_folder(folder: Path) -> None:
    """Refuses a folder that holds something other than an export.

    Raises:
        UsageError: it does, or is no folder.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / FACTS).exists() or not any(folder.iterdir()))):
        raise UsageError(f"--output must be a new or an empty folder, or one of an earlier export, got {folder}")


def open_standalone(folder: Path, graph: Graph) -> Compute:
    """Opens the written graph as its program does."""
    module = torch.export.load(folder / GRAPH).module()

    def compute(inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        with torch.inference_mode():
            outputs = module(*(torch.from_numpy(inputs[name]) for name in graph.inputs))
        return {name: output.numpy() for name, output in zip(graph.outputs, outputs, strict=True)}

    return compute
