"""Exports the best model of a run, and checks that the export computes the same."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from raysweep import __version__
from raysweep.data.decode import UndecodableImage, decode_image, read_image_file
from raysweep.data.images import space_evenly
from raysweep.errors import DataError, UsageError
from raysweep.evaluate.stored_model import StoredModel, describe_model, load_best
from raysweep.evaluate.test_split import open_test
from raysweep.export import onnx_file, standalone
from raysweep.export.graph import Graph
from raysweep.export.onnx_file import Arrays
from raysweep.export.packages import check_installed
from raysweep.export.parity import NUM_ROWS, Parity, draw_inputs, measure_parity
from raysweep.registry import load_object
from raysweep.run_folder import RunFolder

Format = Literal["onnx", "standalone"]


@dataclass(frozen=True, slots=True)
class Export:
    """Says what was written."""

    path: Path
    """The ONNX file, or the standalone folder."""
    usage: str
    parity: Parity


def export_run(
    run_folder: RunFolder,
    *,
    form: Format = "onnx",
    output: Path | None = None,
    images: Sequence[Path] = (),
    data_root: Path | None = None,
) -> Export:
    """Writes a run's best model, by default to `export/` in its folder; what computes something else is not kept.

    The export is compared with the model on 100 of the run's test images, which is recorded as an opening of the test
    split, or on `images`; a generator's on 100 draws of noise.

    Raises:
        UsageError: the run has no best model, its task exports none, or a package is missing.
        CorruptFileError: a file of `best/` is damaged.
        ExportError: the model cannot be written in this form, or does not compute the same there.
    """
    if form == "onnx":
        check_installed()
    target = output or run_folder.export / (onnx_file.FILE if form == "onnx" else "standalone")
    if form == "standalone":
        standalone.check_folder(target)
    elif target.is_dir():
        raise UsageError(f"--output must be a file for ONNX, got the folder {target}; give {target / onnx_file.FILE}")
    model = load_best(run_folder, torch.device("cpu"))
    graph = build_graph(model, run_folder)
    inputs = _find_inputs(graph, model, run_folder, images, data_root)
    facts = {
        "raysweep": __version__,
        "model": describe_model(model),
        "data_digest": model.info.digest,
        "task": model.config.task.kind,
    }
    parity = _write_checked(form, target, graph, facts, inputs)
    return Export(target, graph.usage, parity)


def build_graph(model: StoredModel, run_folder: RunFolder) -> Graph:
    """Builds what is exported of a model.

    Raises:
        UsageError: its task exports nothing.
    """
    reference = model.config.task.graph
    if reference is None:
        raise UsageError(
            f"the task {model.config.task.kind} exports no model: its configuration has to name, as `graph`, what "
            "builds a raysweep.export.graph.Graph"
        )
    graph: Graph = load_object(reference)(model, run_folder)
    for parameter in graph.module.parameters():
        parameter.requires_grad_(False)
    return graph


def _write_checked(form: Format, target: Path, graph: Graph, facts: Mapping[str, str], inputs: Arrays) -> Parity:
    """Writes beside the target, and puts it in its place once it computes the same."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    write = onnx_file.write_onnx if form == "onnx" else standalone.write_standalone
    try:
        write(draft, graph, facts)
        compute = onnx_file.open_onnx(draft) if form == "onnx" else standalone.open_standalone(draft, graph)
        parity = measure_parity(graph, compute, inputs)
        if form == "onnx":
            draft.replace(target)
        else:
            target.mkdir(parents=True, exist_ok=True)
            for path in draft.iterdir():
                path.replace(target / path.name)  # what else is there stays
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        draft.unlink(missing_ok=True)
    return parity


def _find_inputs(
    graph: Graph, model: StoredModel, run_folder: RunFolder, images: Sequence[Path], data_root: Path | None
) -> Arrays:
    """Finds what the export is checked on."""
    if not graph.takes_images:
        return draw_inputs(graph)
    if images:
        return {"images": _decode(images, model)}
    return {"images": _take_test_images(run_folder, data_root)}


def _take_test_images(run_folder: RunFolder, data_root: Path | None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Takes decoded test images, evenly spaced; nothing is chosen by them."""
    from raysweep.search.reevaluate import find_data  # slow: imports Ray
    from raysweep.search.session.lock import hold_lock

    try:
        _, test_folder = find_data(run_folder, data_root)
    except UsageError as error:
        raise UsageError(f"{error}; or check the export on other images: --images FOLDER") from error
    with hold_lock(run_folder):
        test, _ = open_test(test_folder, run_folder, "parity of an export")
    return test.gather(space_evenly(len(test), NUM_ROWS))


def _decode(paths: Sequence[Path], model: StoredModel) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Decodes the first images of those that are named."""
    from raysweep.predict import find_images

    data = model.config.data
    decoded = []
    for path in find_images(paths)[:NUM_ROWS]:
        try:
            content = read_image_file(path, data.max_pixels)
            decoded.append(
                decode_image(content, size=data.decoded_size, channels=data.channels, max_pixels=data.max_pixels)
            )
        except (UndecodableImage, OSError) as error:
            raise DataError(f"--images must name images, got {path}: {error}") from error
    return np.stack(decoded)
