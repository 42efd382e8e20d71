"""Measures predictions of files against a bare batched loop, which neither rejects nor survives a bad file.

    python benchmarks/predict.py RUN FOLDER [--images 10000] [--repeats 3]

RUN is a finished run of a classifier, FOLDER has images; its files are taken in turn until there are enough. The peer
is a torch DataLoader, a worker for each core, that decodes by the same function, and the same network on batches of
the same size. Both load the model. Ratios are images per second of ours over the peer's, of wall and of CPU time
(workers included), paired, in alternating order.
"""

import argparse
import itertools
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _report import alternate, bootstrap_median, finish, give_up, warn_if_busy
from torch.utils.data import DataLoader, Dataset

from raysweep.config import DataConfig
from raysweep.data.batches import normalise_images
from raysweep.data.decode import decode_image
from raysweep.evaluate.stored_model import load_best
from raysweep.predict import BATCH_SIZE, find_images, iterate_predictions
from raysweep.run_folder import RunFolder


class Files(Dataset[npt.NDArray[np.uint8]]):
    """Decodes a file."""

    def __init__(self, paths: list[Path], config: DataConfig) -> None:
        self.paths, self.config = paths, config

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        content = self.paths[index].read_bytes()
        return decode_image(content, size=self.config.decoded_size, channels=self.config.channels)


def run_bare(run: RunFolder, paths: list[Path]) -> list[int]:
    """Labels files by a loop that a practitioner writes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_best(run, device)
    data, network = model.config.data, model.modules["model"].eval()
    loader: Any = DataLoader(
        Files(paths, data), batch_size=BATCH_SIZE, num_workers=os.cpu_count() or 1, collate_fn=np.stack
    )
    labels: list[int] = []
    for pixels in loader:
        labels += model.task.infer(network, normalise_images(pixels, data, device)).argmax(dim=1).tolist()
    return labels


def run_ours(run: RunFolder, paths: list[Path]) -> list[str]:
    """Labels and rejects files as `predict` does."""
    return [prediction.row["label"] for prediction in iterate_predictions(run, paths)]


def measure(work: Callable[[], list[Any]]) -> tuple[float, float, list[Any]]:
    """Measures wall and CPU seconds, those of workers that have ended included."""

    def cpu_s() -> float:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    wall, cpu = time.perf_counter(), cpu_s()
    said = work()
    return time.perf_counter() - wall, cpu_s() - cpu, said


def main() -> None:
    """Prints both ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10_000, help="files to label; default: 10,000")
    parser.add_argument("--repeats", type=int, default=3, help="pairs; default: 3")
    arguments = parser.parse_args()
    run, found = RunFolder(arguments.run.resolve()), find_images([arguments.folder])
    if not found or not found[0].is_file():
        give_up(f"{arguments.folder} must have images")
    warn_if_busy()
    paths = list(itertools.islice(itertools.cycle(found), arguments.images))
    classes = load_best(run, torch.device("cpu")).info.classes
    parts = {
        "ours": partial(measure, partial(run_ours, run, paths)),
        "bare": partial(measure, partial(run_bare, run, paths)),
    }
    wall, cpu, seconds = [], [], []
    for repeat in range(arguments.repeats):
        done = alternate(parts, repeat)
        same = sum(label == classes[index] for label, index in zip(done["ours"][2], done["bare"][2], strict=True))
        if same < 0.999 * len(paths):  # not all: sums of floats differ by the size of a batch
            give_up(f"both must give the same labels, got {same} of {len(paths)}")
        wall.append(done["bare"][0] / done["ours"][0])
        cpu.append(done["bare"][1] / done["ours"][1])
        seconds.append({name: [round(value, 2) for value in done[name][:2]] for name in parts})
        print(f"pair {repeat + 1}: {seconds[-1]}", flush=True)
    ratios = {"images per wall second": bootstrap_median(wall), "images per CPU second": bootstrap_median(cpu)}
    finish("predict", ratios=ratios, n=arguments.repeats, values={"images": len(paths), "seconds": seconds})


if __name__ == "__main__":
    main()
