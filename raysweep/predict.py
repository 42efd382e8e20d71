"""Labels for image files, or a rejection, from a run's best model: in batches, while threads decode the next ones."""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raysweep.config import DataConfig
from raysweep.cores import count_cores, keep_freed_memory
from raysweep.data.decode import UndecodableImage, decode_image, read_image_file
from raysweep.data.sources.image_files import list_images
from raysweep.evaluate.stored_model import load_best
from raysweep.run_folder import RunFolder
from raysweep.tasks.classification.labelling import Labeller, load_labeller

BATCH_SIZE = 64
BATCHES_AHEAD = 3
"""Batches that are decoded, or being so, while one is labelled: what bounds memory."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Holds what is said of one file."""

    row: dict[str, Any]
    """Its `image`, and `label`, `confidence`, `rejected`, or an `error`; see `predict_files`."""
    embedding: npt.NDArray[np.float32] | None = None
    """(D,): what the last linear layer is given; none: the file could not be decoded."""


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Lists the files that are meant: a file is itself, a folder all images below it, a pattern what matches it.

    A path that is neither, or a folder without images, stays in the list, to be told of.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            images = [Path(image) for image, _ in list_images(path).images]
        elif os.path.lexists(path) or not glob.has_magic(str(path)):
            images = [path]
        else:
            images = [
                match
                for name in sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns
                if not (match := Path(name)).is_dir()
            ]
        found += images or [path]
    return found


def predict_files(run_folder: RunFolder, paths: Iterable[Path], *, top_k: int = 1) -> list[dict[str, Any]]:
    """Returns for each file its `image`, `label`, `confidence`, `score` and whether it is `rejected`, or an `error`.

    The score says how like the classes' images it is, higher is more; a rejected image is below the detector's
    `threshold`, and its label means nothing. Runs without a detector reject nothing and give no score. With `top_k`
    above 1, `top` lists the likeliest classes. `trusted` is false where the detector has doubts of itself, which are
    told on stderr, too.

    Raises:
        UsageError: the run has no best model, or its task gives no labels.
        CorruptFileError: the weights or the detector do not match their digest.
    """
    return [prediction.row for prediction in iterate_predictions(run_folder, paths, top_k=top_k)]


def iterate_predictions(run_folder: RunFolder, paths: Iterable[Path], *, top_k: int = 1) -> Iterator[Prediction]:
    """Yields what is said of each file, in order; see `predict_files`. On a GPU where there is one."""
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_best(run_folder, device)
    labeller = load_labeller(run_folder, model)
    if labeller.detector is not None:
        labeller.detector.tell_doubts()
    with ThreadPoolExecutor(count_cores()) as pool:
        for files, decoded in _decode_batches(pool, paths, model.config.data):
            yield from _label_batch(labeller, files, decoded, device, top_k)


def _decode_batches(
    pool: ThreadPoolExecutor, paths: Iterable[Path], config: DataConfig
) -> Iterator[tuple[Sequence[Path], list[npt.NDArray[np.uint8] | str]]]:
    """Yields files and what became of each: pixels (H, W, C), or why there are none."""
    remaining = iter(paths)
    waiting: deque[tuple[list[Path], list[Future[npt.NDArray[np.uint8] | str]]]] = deque()
    while True:
        while len(waiting) <= BATCHES_AHEAD and (files := list(islice(remaining, BATCH_SIZE))):
            waiting.append((files, [pool.submit(_decode, path, config) for path in files]))
        if not waiting:
            return
        files, futures = waiting.popleft()
        yield files, [future.result() for future in futures]


def _decode(path: Path, config: DataConfig) -> npt.NDArray[np.uint8] | str:
    try:
        data = read_image_file(path, config.max_pixels)
        return decode_image(data, size=config.decoded_size, channels=config.channels, max_pixels=config.max_pixels)
    except (UndecodableImage, OSError) as error:
        return str(error)


@torch.inference_mode()
def _label_batch(
    labeller: Labeller,
    files: Sequence[Path],
    decoded: Sequence[npt.NDArray[np.uint8] | str],
    device: torch.device,
    top_k: int,
) -> Iterator[Prediction]:
    """Labels those files of a batch that could be decoded."""
    pixels = [image for image in decoded if not isinstance(image, str)]
    rows: Iterator[Prediction] = iter(())
    if pixels:
        rows = iter(describe_batch(labeller, torch.from_numpy(np.stack(pixels)).to(device), top_k))
    for path, image in zip(files, decoded, strict=True):
        if isinstance(image, str):
            yield Prediction({"image": str(path), "error": image})
        else:
            said = next(rows)
            yield Prediction({"image": str(path), **said.row}, said.embedding)


def describe_batch(labeller: Labeller, pixels: torch.Tensor, top_k: int) -> list[Prediction]:
    """Says of decoded images (B, H, W, C) uint8, on the model's device, what is said of files; see `predict_files`."""
    labels = labeller(pixels)
    classes = labeller.model.info.classes
    highest = labels.probabilities.topk(min(top_k, len(classes)), dim=1)
    embeddings = labels.embeddings.numpy()
    rows = []
    for index, (confidences, numbers) in enumerate(zip(highest.values.tolist(), highest.indices.tolist(), strict=True)):
        row: dict[str, Any] = {"label": classes[numbers[0]], "confidence": confidences[0]}
        if top_k > 1:
            row["top"] = [
                {"label": classes[number], "confidence": confidence}
                for number, confidence in zip(numbers, confidences, strict=True)
            ]
        row["rejected"] = not bool(labels.accepted[index])
        if labeller.detector is not None:
            row |= {
                "score": float(labels.score[index]),
                "threshold": labeller.detector.threshold,
                "trusted": not labeller.detector.doubts,
            }
        rows.append(Prediction(row, embeddings[index]))
    return rows
