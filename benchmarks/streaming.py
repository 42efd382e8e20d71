"""An epoch of images that the disk cannot hold decoded: images/s and peak memory, beside a DataLoader's.

Claim: with data.cache=stream an epoch of 100,000 JPEG files of mixed sizes runs at least as fast as a torch DataLoader
that decodes the same files, in the memory of an object store of 79 MB (the least that Ray takes is 78.6), on a disk of
200 MB that could hold a sixth of them decoded (64 x 64 RGB: 1.2 GB); and two streams side by side take no more.
Peer: torch DataLoader, one worker a core, batch 64; Pillow with scaled JPEG decoding, resized to 64 x 64, as tensors.
Data: 1,000 JPEG files of 64 to 800 pixels a side, drawn by this script; the others are hard links to them, so that all
are in the page cache: what is measured is decoding and machinery, not the disk.
Every measurement is a fresh process, its imports and Ray's start not counted; starting loader workers and Ray Data are.
Memory: proportional set sizes of the process and all below it, asked for each second; of ours with Ray's own processes.

    .venv/bin/python benchmarks/streaming.py        # Linux, with user namespaces
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil  # type: ignore[import-untyped]
from _report import alternate, bootstrap_median, finish, warn_if_busy
from image_loading import draw_base
from PIL import Image

NUM_FILES, NUM_PICTURES, NUM_CLASSES, BATCH, SIDE = 100_000, 1000, 5, 64, 64
DISK_BYTES, STORE_BYTES = 200_000_000, 79_000_000
GOALS = {"stream_over_dataloader": 1.0, "two_streams_over_dataloader": 1.0}


def draw_files(folder: Path, num_files: int) -> None:
    """Draws the pictures, and links to them until there are so many files: 96 % train, 2 % val, 2 % test."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    random, bases = np.random.default_rng(0), [draw_base(seed) for seed in range(10)]
    for number in range(NUM_PICTURES):
        width, height = (int(side) for side in random.choice([64, 100, 160, 240, 320, 480, 640, 800], 2))
        left, top = int(random.integers(1081 - width)), int(random.integers(841 - height))
        picture = bases[number % len(bases)].crop((left, top, left + width, top + height))
        picture.save(pictures / f"{number}.jpg", quality=88)
    for number in range(num_files):
        split = ("val", "test")[number % 2] if number % 50 < 2 else "train"
        place = folder / "files" / split / f"class_{number // 50 % NUM_CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(pictures / f"{number % NUM_PICTURES}.jpg", place / f"{number:06d}.jpg")


class Memory:
    """Watches the memory of this process and all below it."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            total, me = 0, psutil.Process()
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:  # it has ended
                    continue
            self.peak_mb = max(self.peak_mb, total / 1e6)


def measure_stream(files: Path, cache: Path, *, num_streams: int = 1) -> tuple[float, float]:
    """Streams as many epochs as there are trials side by side, in actors that hold all CPUs."""
    import ray

    from raysweep.config import DataConfig
    from raysweep.data import pipeline
    from raysweep.data.files import ImageFiles
    from raysweep.data.images import FILES
    from raysweep.data.sources import load_source
    from raysweep.data.stream import RayStream

    ray.init(
        "local",
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    config = DataConfig(source=str(files), image_size=SIDE)
    data, _ = pipeline.prepare(load_source(str(files), split_seed=0, storage=cache), config, cache)
    files_of_train = ImageFiles(data.train.folder / FILES)
    num_cpus = len(os.sched_getaffinity(0)) / num_streams

    def read(seed: int) -> int:
        stream = RayStream(num_actors=max(1, int(num_cpus)), num_streams=num_streams)
        order = np.random.default_rng(seed).permutation(len(data.train))
        shares = [data.train.rows[order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
        return sum(len(batch) for batch in stream(files_of_train, shares))

    memory, began = Memory(), time.perf_counter()
    remote: Any = ray.remote(num_cpus=num_cpus)(read)
    seen = sum(ray.get([remote.remote(seed) for seed in range(num_streams)]))
    return seen / (time.perf_counter() - began), memory.peak_mb


class JpegFiles:
    """The peer's data set: image and label of each file, decoded when asked for."""

    def __init__(self, files: Path) -> None:
        self.paths = sorted(files.glob("train/*/*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch

        with Image.open(self.paths[index]) as image:
            image.draft("RGB", (SIDE, SIDE))
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(small)), int(self.paths[index].parent.name[-1])


def measure_dataloader(files: Path, cache: Path) -> tuple[float, float]:
    """Passes once over torch's DataLoader, workers' start within."""
    from torch.utils.data import DataLoader, Dataset

    memory, began = Memory(), time.perf_counter()
    loader: Iterator[Any] = iter(
        DataLoader(
            cast("Dataset[Any]", JpegFiles(files)),
            batch_size=BATCH,
            shuffle=True,
            num_workers=len(os.sched_getaffinity(0)),
        )
    )
    seen = sum(len(batch) for batch, _ in loader)
    return seen / (time.perf_counter() - began), memory.peak_mb


MEASURES: dict[str, Callable[[Path, Path], tuple[float, float]]] = {
    "dataloader": measure_dataloader,
    "stream": measure_stream,
    "two_streams": lambda files, cache: measure_stream(files, cache, num_streams=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=NUM_FILES, help="default %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement; default %(default)s")
    parser.add_argument("--part", nargs=3, metavar=("PART", "FILES", "CACHE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part, files, cache = args.part
        print(json.dumps(MEASURES[part](Path(files), Path(cache))))
        return
    from raysweep.chaos.small_disk import open_small_disk

    warn_if_busy()
    runs: list[dict[str, tuple[float, float]]] = []
    disk_bytes = DISK_BYTES * args.files // NUM_FILES
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        folder = Path(temporary)
        draw_files(folder, args.files)
        with open_small_disk(folder / "disk", disk_bytes) as disk:

            def measure(part: str) -> tuple[float, float]:
                command = [*disk.prefix, sys.executable, str(Path(__file__).resolve()), "--part", part]
                command += [str(folder / "files"), str(folder / "disk")]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                rate, peak_mb = json.loads(done.stdout.splitlines()[-1])
                return rate, peak_mb

            measure("stream")  # reads and checks all files once
            parts = {part: lambda part=part: measure(part) for part in MEASURES}
            for repeat in range(args.repeats):
                runs.append(alternate(parts, repeat))
                said = (f"{part} {rate:,.0f} images/s, {peak:,.0f} MB" for part, (rate, peak) in runs[-1].items())
                print(f"repeat {repeat}: {'; '.join(said)}", flush=True)
    ratios = {
        f"{part}_over_dataloader": bootstrap_median([run[part][0] / run["dataloader"][0] for run in runs])
        for part in ("stream", "two_streams")
    }
    for name, goal in GOALS.items():
        print(f"goal: {name} at least {goal}: {'met' if ratios[name].median >= goal else 'MISSED'}")
    peaks = {part: max(run[part][1] for run in runs) for part in MEASURES}
    values = {"num_files": args.files, "disk_bytes": disk_bytes, "store_bytes": STORE_BYTES, "peak_mb": peaks}
    finish("streaming", ratios=ratios, n=len(runs), values=values)


if __name__ == "__main__":
    main()
