"""Labels for image files, or a rejection, from a run's best model: in batches, one on each core."""

import copy
import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
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
MAX_WORKERS = 16
"""Batches that are labelled at a time on CPUs, at most: each takes memory for its activations."""
BATCHES_AHEAD = 3
"""Batches that wait beside those."""


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

    While it goes on, threads that are new have one thread of PyTorch's (`torch.set_num_threads`).
    """
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_best(run_folder, device)
    labeller = load_labeller(run_folder, model)
    if labeller.detector is not None:
        labeller.detector.tell_doubts()
    files = list(paths)
    num_workers = max(1, min(count_cores() if device.type == "cuda" else MAX_WORKERS, count_cores(), len(files)))
    size = max(1, min(BATCH_SIZE, -(-len(files) // num_workers)))
    batches = (files[start : start + size] for start in range(0, len(files), size))
    with _Workers(labeller, num_workers) as workers:
        waiting = deque(workers.submit(batch, top_k) for batch in islice(batches, num_workers + BATCHES_AHEAD))
        while waiting:
            yield from waiting.popleft().result()
            waiting += [workers.submit(batch, top_k) for batch in islice(batches, 1)]


class _Workers:
    """Decodes and labels batches of files, each batch on one core: several cores in one network wait for one another.

    The hooks that record features belong to a network, so that on CPUs each thread has its own, with the same weights
    and detector in memory; on a GPU they take turns with one.
    """

    def __init__(self, labeller: Labeller, num_workers: int) -> None:
        on_cpu = labeller.mean.device.type == "cpu"
        shared = {id(part): part for part in (labeller.detector, *labeller.parameters(), *labeller.buffers())}
        self._idle: SimpleQueue[Labeller] = SimpleQueue()
        self._idle.put(labeller)
        for _ in range(num_workers - 1 if on_cpu else 0):
            self._idle.put(copy.deepcopy(labeller, dict(shared)))
        self._config = labeller.model.config.data
        self._num_threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._num_threads)  # which holds for new threads, too

    def submit(self, files: Sequence[Path], top_k: int) -> Future[list[Prediction]]:
        """Has a batch labelled when its turn comes."""
        return self._pool.submit(self._label, files, top_k)

    def _label(self, files: Sequence[Path], top_k: int) -> list[Prediction]:
        decoded = [_decode(path, self._config) for path in files]
        labeller = self._idle.get()
        try:
            return _label_batch(labeller, files, decoded, top_k)
        finally:
            self._idle.put(labeller)


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
