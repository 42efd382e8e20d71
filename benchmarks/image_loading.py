"""From a folder of JPEG files to uint8 batches: images/s of the decoding pass, and of every pass after it.

Claim: the first pass (Ray Data reads, decodes and resizes every file, and writes the cache on disk) is at least 1.5
times as fast as a torch DataLoader over the same files, and a pass over the training batches in the cache at least 30
times: no later epoch or trial decodes anything.
Peer: torch DataLoader, one worker a core, batch 64; Pillow, `Resize((224, 224))`, `PILToTensor`; no augmentation.
A second peer, `draft`, has Pillow's scaled JPEG decoding added by hand, as ours has: what is left is the machinery.
Data: 3,000 JPEG files of about 900x700 pixels and 125 KB, drawn by this script once and kept in the temporary folder.
Every measurement is a fresh process with the files in the page cache; its imports and Ray's start are not counted,
listing the files, starting loader workers and Ray Data's own start are. Every first pass has an empty cache folder and
decodes all files. The pass from the cache opens it and gathers the training split, shuffled, in batches of 64.

    .venv/bin/python benchmarks/image_loading.py        # about 4 min on 2 cores

Measured with 9,737 files and 3 pairs (2 cores, Intel Xeon): first pass 1.21 [1.18, 1.22], over `draft` 0.71 [0.66,
0.71]; from the cache 84 [83, 86].
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from _report import alternate, bootstrap_median, finish, warn_if_busy
from PIL import Image

NUM_IMAGES, NUM_CLASSES, NUM_BASES, BATCH, SIDE = 9737, 6, 60, 64, 224
GOALS = {"first_pass_over_dataloader": 1.5, "cache_over_dataloader": 30.0}


def draw_base(seed: int) -> Image.Image:
    """A picture with a photograph's falling spectrum and a sensor's noise, 1080x840 RGB."""
    random = np.random.default_rng(seed)
    picture = np.zeros((840, 1080, 3), np.float32)
    for octave in range(9):
        small = (random.random((2**octave + 1, 2**octave + 2, 3)) * 255).astype(np.uint8)
        layer = Image.fromarray(small).resize((1080, 840), Image.Resampling.BICUBIC)
        picture += (np.asarray(layer, np.float32) - 128) * 0.9 * 0.72**octave
    return Image.fromarray((picture + 128 + random.normal(0, 4, (840, 1080, 1))).clip(0, 255).astype(np.uint8))


def draw_images(folder: Path, base: int, numbers: range) -> None:
    """Crops of different sizes and brightness of one base picture as JPEG files."""
    picture, random = draw_base(base), np.random.default_rng([base, 1])
    for number in numbers:
        width, height = int(random.integers(820, 981)), int(random.integers(640, 761))
        left, top = int(random.integers(1081 - width)), int(random.integers(841 - height))
        gain = random.uniform(0.7, 1.1)
        crop = picture.crop((left, top, left + width, top + height)).point(lambda value, gain=gain: value * gain)
        crop.save(folder / f"class_{number % NUM_CLASSES}" / f"{number:05d}.jpg", quality=88)


def prepare_images(num_images: int) -> Path:
    """The folder of JPEG files, drawn once in parallel; its name appears when it is whole."""
    folder = Path(tempfile.gettempdir()) / f"raysweep-bench-jpegs-{num_images}"
    if not folder.is_dir():
        partial = Path(tempfile.mkdtemp(prefix=".raysweep-bench-jpegs-"))
        for label in range(NUM_CLASSES):
            (partial / f"class_{label}").mkdir()
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            numbers = [range(base, num_images, NUM_BASES) for base in range(NUM_BASES)]
            list(pool.map(draw_images, [partial] * NUM_BASES, range(NUM_BASES), numbers))
        partial.rename(folder)
    return folder


def measure_first_pass(images: Path, cache: Path) -> float:
    """Images/s of `pipeline.prepare`, from the folder's name to a whole cache; Ray runs already."""
    from raysweep.cluster.connection import connect
    from raysweep.config import DataConfig
    from raysweep.data import pipeline
    from raysweep.data.sources import load_source

    connect("local")
    began = time.perf_counter()
    source = load_source(str(images), split_seed=0, storage=cache)
    data, _ = pipeline.prepare(source, DataConfig(source=str(images), image_size=SIDE), cache)
    duration = time.perf_counter() - began
    return (data.info.num_train + data.info.num_val + data.info.num_test) / duration


def measure_cache(images: Path, cache: Path) -> float:
    """Images/s of one shuffled pass over the training split in the cache, as uint8 tensors (64, 224, 224, 3)."""
    import torch

    from raysweep.data.images import PreparedData

    folder = next(path.parent for path in cache.glob("*/info.json"))
    began = time.perf_counter()
    train = PreparedData.load(folder).train
    order = np.random.default_rng(0).permutation(len(train))
    seen = 0
    for start in range(0, len(order), BATCH):
        batch = torch.from_numpy(train.gather(order[start : start + BATCH]))
        seen += len(batch)
    return seen / (time.perf_counter() - began)


class JpegFolder:
    """The peer's data set: image and label of each file, decoded when asked for."""

    def __init__(self, images: Path, *, draft: bool) -> None:
        from torchvision.transforms import v2

        self.files = sorted(images.glob("*/*.jpg"))
        classes = sorted({file.parent.name for file in self.files})
        self.labels = [classes.index(file.parent.name) for file in self.files]
        self.draft = draft
        self.transform = v2.Compose([v2.Resize((SIDE, SIDE)), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        with Image.open(self.files[index]) as image:
            if self.draft:
                image.draft("RGB", (SIDE, SIDE))
            return self.transform(image.convert("RGB")), self.labels[index]


def measure_dataloader(images: Path, cache: Path, *, draft: bool = False) -> float:
    """Images/s of one pass of torch's DataLoader, workers' start within."""
    from torch.utils.data import DataLoader, Dataset

    began = time.perf_counter()
    dataset = JpegFolder(images, draft=draft)
    loader = DataLoader(
        cast("Dataset[Any]", dataset), batch_size=BATCH, shuffle=True, num_workers=len(os.sched_getaffinity(0))
    )
    seen = sum(len(batch) for batch, _ in loader)
    return seen / (time.perf_counter() - began)


MEASURES: dict[str, Callable[[Path, Path], float]] = {
    "dataloader": measure_dataloader,
    "first_pass": measure_first_pass,
    "cache": measure_cache,
    "draft": lambda images, cache: measure_dataloader(images, cache, draft=True),
}


def measure(part: str, images: Path, cache: Path) -> float:
    """Images/s of a part in a fresh process. A first pass finds an empty cache folder and leaves a full one."""
    if part == "first_pass":
        shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, __file__, "--part", part, str(images), str(cache)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=NUM_IMAGES, help="files; default %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement; default %(default)s")
    parser.add_argument("--part", nargs=3, metavar=("PART", "IMAGES", "CACHE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part, images, cache = args.part
        print(json.dumps(MEASURES[part](Path(images), Path(cache))))
        return
    warn_if_busy()
    images = prepare_images(args.images)
    sizes = [len(path.read_bytes()) for path in images.glob("*/*.jpg")]
    mean_kilobytes = round(statistics.mean(sizes) / 1000, 1)
    print(f"{len(sizes)} files in {images}, {mean_kilobytes} KB on average, all read once", flush=True)
    runs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        cache = Path(temporary) / "cache"
        measure("first_pass", images, cache)
        parts = {part: lambda part=part: measure(part, images, cache) for part in MEASURES}
        for repeat in range(args.repeats):
            runs.append(alternate(parts, repeat))
            speeds = ", ".join(f"{part} {speed:,.0f}" for part, speed in runs[-1].items())
            print(f"repeat {repeat}: images/s: {speeds}", flush=True)
    pairs = [("first_pass", "dataloader"), ("first_pass", "draft"), ("cache", "dataloader"), ("cache", "draft")]
    ratios = {f"{a}_over_{b}": bootstrap_median([run[a] / run[b] for run in runs]) for a, b in pairs}
    for name, goal in GOALS.items():
        print(f"goal: {name} at least {goal}: {'met' if ratios[name].median >= goal else 'MISSED'}")
    finish(
        "image_loading",
        ratios=ratios,
        n=len(runs),
        values={
            "images_per_s": {part: statistics.median(run[part] for run in runs) for part in MEASURES},
            "num_files": len(sizes),
            "mean_kilobytes": mean_kilobytes,
        },
    )


if __name__ == "__main__":
    main()
