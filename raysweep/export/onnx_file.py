"""Writes a graph as an ONNX file, and computes with one."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raysweep import __version__, atomic_files
from raysweep.errors import ExportError, first_line
from raysweep.export.graph import Graph
from raysweep.export.packages import check_installed

FILE = "model.onnx"
Arrays = Mapping[str, npt.NDArray[Any]]
Compute = Callable[[Arrays], dict[str, npt.NDArray[Any]]]
"""Computes a graph's outputs by name from its inputs by name."""


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """Traces a graph; the number of rows, of images height and width too, stay open.

    Raises:
        ExportError: torch cannot.
    """
    names = list(graph.inputs)
    open_axes = tuple(dict.fromkeys(graph.dynamic_axes[name], torch.export.Dim.DYNAMIC) for name in names)
    is_variadic = not graph.takes_images  # ImageGenerator.forward takes *inputs
    shapes: Any = (open_axes,) if is_variadic else open_axes
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(graph.module, tuple(graph.inputs.values()), dynamic_shapes=shapes)
    except Exception as error:  # a network of anybody's: torch raises what it likes
        raise ExportError(f"torch.export cannot trace this model: {_first_line(error)}") from error


def write_onnx(path: Path, graph: Graph, facts: Mapping[str, str]) -> None:
    """Writes the graph as one file, with names of classes, usage and `facts` in its metadata.

    Raises:
        ExportError: an operation of the model has no form in ONNX.
        StorageError: the storage does not take it.
    """
    check_installed()
    import onnx

    program = trace(graph)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = program.run_decompositions(_DECOMPOSITIONS)
            written = torch.onnx.export(
                program, (), input_names=list(graph.inputs), output_names=list(graph.outputs), verbose=False
            )
    except Exception as error:
        raise ExportError(f"this model has an operation that ONNX has not: {_first_line(error)}") from error
    assert written is not None
    proto = written.model_proto
    if graph.classes:
        _add_labels(proto, graph.classes)
    proto.producer_name, proto.producer_version, proto.doc_string = "raysweep", __version__, graph.usage
    metadata = {**facts, "usage": graph.usage, "classes": json.dumps(graph.classes), **_as_texts(graph.facts)}
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto)
    atomic_files.write_atomically(path, lambda temporary: onnx.save(proto, str(temporary)))


def open_onnx(path: Path) -> Compute:
    """Opens a file for onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def compute(inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(names, map(np.asarray, session.run(names, dict(inputs))), strict=True))

    return compute


def _add_labels(proto: Any, classes: tuple[str, ...]) -> None:
    """Adds the output `label`: the name, from the names of all classes, that `index` numbers."""
    from onnx import TensorProto, helper

    encoded: Any = [name.encode() for name in classes]  # onnx says that it takes numbers only
    names = helper.make_tensor("class_names", TensorProto.STRING, [len(classes)], encoded)
    batch = next(output for output in proto.graph.output if output.name == "index").type.tensor_type.shape.dim[0]
    proto.graph.initializer.append(names)
    proto.graph.node.append(helper.make_node("Gather", ["class_names", "index"], ["label"], axis=0))
    shape = [batch.dim_param or batch.dim_value]
    proto.graph.output.insert(0, helper.make_tensor_value_info("label", TensorProto.STRING, shape))


def _compute_distances(
    left: torch.Tensor, right: torch.Tensor, p: float = 2.0, compute_mode: str | None = None
) -> torch.Tensor:
    """Computes distances (N, M) of points (N, K) and (M, K) by operations that ONNX has."""
    if p != 2.0:
        raise NotImplementedError(f"distances of order {p}")
    return (left[:, None] - right[None]).square().sum(dim=2).sqrt()


_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {torch.ops.aten.cdist.default: _compute_distances}


def _as_texts(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in facts.items()}


def _first_line(error: BaseException) -> str:
    """Shows the innermost cause of an error of torch's exporters, whose outer ones are pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
