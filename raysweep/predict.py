"""Labels for image files, or a rejection, from a run's best model: in batches, on CPUs one on each core."""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

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
MIN_BATCH_SIZE = 8
MAX_WORKERS = 16
"""Threads that decode, or label a batch each, at most."""
MAX_VALUES = 2 * 64 * 3 * 224 * 224
"""Of the images in all batches that are labelled at a time: each takes memory for its activations."""
BATCHES_AHEAD = 3
"""Batches that wait beside those."""
FILES_AT_ONCE = 8
"""Files that a thread decodes of a batch which another one labels."""
Begun = TypeVar("Begun")


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
    """Yields what is said of each file, in order; see `predict_files`. On a GPU where there is one.

    While it goes on on CPUs, threads that are new have one thread of PyTorch's (`torch.set_num_threads`).
    """
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_best(run_folder, device)
    labeller = load_labeller(run_folder, model)
    if labeller.detector is not None:
        labeller.detector.tell_doubts()
    files = list(paths)
    num_workers = max(1, min(MAX_WORKERS, count_cores(), len(files)))
    label = label_on_cores if device.type == "cpu" and labeller.is_thread_safe else label_in_turn
    yield from label(labeller, files, top_k, num_workers)


def label_on_cores(labeller: Labeller, files: Sequence[Path], top_k: int, num_workers: int) -> Iterator[Prediction]:
    """Decodes and labels each batch on one core: several cores in one batch wait for one another."""
    config = labeller.model.config.data
    size = choose_batch_size(len(files), num_workers, config)

    def decode_and_label(batch: Sequence[Path]) -> list[Prediction]:
        return _label_batch(labeller, batch, _decode_files(batch, config), top_k)

    num_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        begun = (pool.submit(decode_and_label, batch) for batch in _split(files, size))
        for predictions in _run_ahead(begun, num_workers + BATCHES_AHEAD):
            yield from predictions.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # which holds for new threads, too


def label_in_turn(labeller: Labeller, files: Sequence[Path], top_k: int, num_workers: int) -> Iterator[Prediction]:
    """Decodes in threads, and labels one batch after another in the caller's: with all of its PyTorch's threads."""
    config = labeller.model.config.data
    pool = ThreadPoolExecutor(num_workers)
    try:
        begun = (
            (batch, [pool.submit(_decode_files, part, config) for part in _split(batch, FILES_AT_ONCE)])
            for batch in _split(files, BATCH_SIZE)
        )
        for batch, parts in _run_ahead(begun, 1 + BATCHES_AHEAD):
            yield from _label_batch(labeller, batch, [image for part in parts for image in part.result()], top_k)
    finally:
        pool.shutdown(cancel_futures=True)


def choose_batch_size(num_files: int, num_workers: int, config: DataConfig) -> int:
    """Chooses how many files each of `num_workers` labels at a time.

    All get work where there are few files; of large images all together have no more than MAX_VALUES, as far as
    batches of MIN_BATCH_SIZE allow.
    """
    num_values = num_workers * config.channels * config.image_size**2
    most = min(BATCH_SIZE, max(MIN_BATCH_SIZE, MAX_VALUES // num_values))
    return max(1, min(most, -(-num_files // num_workers)))


def _split(files: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    return (files[start : start + size] for start in range(0, len(files), size))


def _run_ahead(begun: Iterator[Begun], num_ahead: int) -> Iterator[Begun]:
    """Yields what is begun by being taken from the iterator, in order; so many are begun at a time."""
    waiting = deque(islice(begun, num_ahead))
    while waiting:
        yield waiting.popleft()
        waiting += islice(begun, 1)


def _decode_files(files: Sequence[Path], config: DataConfig) -> list[npt.NDArray[np.uint8] | str]:
    return [_decode(path, config) for path in files]


def _decode(path: Path, config: DataConfig) -> npt.NDArray[np.uint8] | str:
    try:
        data = read_image_file(path, config.max_pixels)
        return decode_image(data, size=config.decoded_size, channels=config.channels, max_pixels=config.max_pixels)
    except (UndecodableImage, OSError) as error:
        return str(error)


@torch.inference_mode()
def _label_batch(
    labeller: Labeller, files: Sequence[Path], decoded: Sequence[npt.NDArray[np.uint8] | str], top_k: int
) -> list[Prediction]:
    """Labels those files of a batch that could be decoded."""
    pixels = [image for image in decoded if not isinstance(image, str)]
    rows: Iterator[Prediction] = iter(())
    if pixels:
        rows = iter(describe_batch(labeller, torch.from_numpy(np.stack(pixels)).to(labeller.mean.device), top_k))
    predictions = []
    for path, image in zip(files, decoded, strict=True):
        if isinstance(image, str):
            predictions.append(Prediction({"image": str(path), "error": image}))
        else:
            said = next(rows)
            predictions.append(Prediction({"image": str(path), **said.row}, said.embedding))
    return predictions


def describe_batch(labeller: Labeller, pixels: torch.Tensor, top_k: int) -> list[Prediction]:
    """Says of decoded images (B, H, W, C) uint8, on the model's device, what is said of files; see `predict_files`."""
    labels = labeller(pixels)
    classes = labeller.model.info.classes
    # As `argmax` does, which evaluation uses: of equal ones, which bf16 makes, the first.
    confidences, order = labels.probabilities.sort(dim=1, descending=True, stable=True)
    likeliest = zip(confidences[:, :top_k].tolist(), order[:, :top_k].tolist(), strict=True)
    embeddings = labels.embeddings.numpy()
    rows = []
    for index, (shares, numbers) in enumerate(likeliest):
        row: dict[str, Any] = {"label": classes[numbers[0]], "confidence": shares[0]}
        if top_k > 1:
            row["top"] = [
                {"label": classes[number], "confidence": confidence}
                for number, confidence in zip(numbers, shares, strict=True)
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
