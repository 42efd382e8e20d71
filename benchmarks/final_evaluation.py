"""What the final evaluation takes of a search, and against a bare pass of the same network over the test images.

Claim: it takes at most a tenth of the search that it follows, or 60 s.
Peer: a bare forward pass over the decoded test images, in batches, with as many threads; best and baseline both pass
once. What else the evaluation does (a detector of what is none of the classes, reports, figures) is the ratio above 1.
Data: JPEG files of 32x32 pixels in ten classes, drawn by this script once and kept in the temporary folder, in the
splits of CIFAR-10 (50,000 to train and validate with, 10,000 to test on), or fewer in the same shares.
A run is `raysweep tune` in a process of its own, of trials of three epochs each; results.json has the times.

    .venv/bin/python benchmarks/final_evaluation.py                    # about 15 min on 2 cores
    .venv/bin/python benchmarks/final_evaluation.py --images 12000     # a fifth of the files
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from _report import bootstrap_median, finish, warn_if_busy
from PIL import Image

from raysweep.data.batches import normalise_images
from raysweep.data.images import ImageSet
from raysweep.evaluate.stored_model import load_best
from raysweep.run_folder import RunFolder
from raysweep.search.results import load_results
from raysweep.train.precision import prepare_process

ROOT = Path(__file__).resolve().parents[1]
NUM_IMAGES, NUM_CLASSES, SIDE, EPOCHS = 60_000, 10, 32, 3
MAX_SHARE, MAX_S = 0.1, 60.0


def draw_class(folder: Path, label: int, num_images: int) -> None:
    """Draws one class of a split: a pattern of its own, shifted, in changing colours and noise."""
    place = folder / f"class_{label}"
    place.mkdir(parents=True)
    pattern = np.random.default_rng(label).integers(0, 256, (8, 8, 3)).astype(np.float32)
    pattern = pattern.repeat(SIDE // 8, axis=0).repeat(SIDE // 8, axis=1)
    draw = np.random.default_rng([label, num_images])
    for number in range(num_images):
        shifted = np.roll(pattern, draw.integers(0, SIDE, 2), axis=(0, 1))
        pixels = shifted * draw.uniform(0.3, 0.7, 3) + draw.normal(64, 40, (SIDE, SIDE, 3))
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(place / f"{number:05d}.jpg", quality=90)


def prepare_images(num_images: int) -> Path:
    """The folder of JPEG files with its splits, drawn once in parallel; its name appears when it is whole."""
    folder = Path(tempfile.gettempdir()) / f"raysweep-bench-small-jpegs-{num_images}"
    if not folder.is_dir():
        partial = Path(tempfile.mkdtemp(prefix=".raysweep-bench-small-jpegs-"))
        parts = {"train": num_images * 5 // 6 // NUM_CLASSES, "test": num_images // 6 // NUM_CLASSES}
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            jobs = [(partial / split, label, count) for split, count in parts.items() for label in range(NUM_CLASSES)]
            list(pool.map(draw_class, *zip(*jobs, strict=True)))
        partial.rename(folder)
    return folder


def run_search(images: Path, storage: Path, args: argparse.Namespace) -> RunFolder:
    """Searches on the images with a small network; the final evaluation follows."""
    settings = [
        f"task.model={args.model}", "task.pretrained=false", "task.head=linear", "task.backbone_factor=1",
        "task.optimizer=adam", f"data.image_size={SIDE}", "training.batch_size=128", f"training.epochs={EPOCHS}",
    ]  # fmt: skip
    command = [
        sys.executable, "-m", "platform.tune", "car_resnet", "--data", str(images), "--storage", str(storage),
        "--trials", str(args.trials), "--name", "run", "--wandb", "disabled", "--address", "local",
        *(part for setting in settings for part in ("--set", setting)),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT)
    return RunFolder(storage / "run")


def time_bare_pass(run: RunFolder, test: Path) -> float:
    """Seconds of one forward pass of the best network over the decoded test images, in batches of 500."""
    prepare_process(len(os.sched_getaffinity(0)))
    best = load_best(run, torch.device("cpu"))
    network, images = best.modules["model"], ImageSet(test)
    began = time.perf_counter()
    for start in range(0, len(images), 500):
        pixels = images.gather(np.arange(start, min(start + 500, len(images))))
        best.task.infer(network, normalise_images(pixels, best.config.data, torch.device("cpu")))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=NUM_IMAGES, help="files; default %(default)s")
    parser.add_argument("--trials", type=int, default=4, help="of the search; default %(default)s")
    parser.add_argument("--model", default="resnet10t", help="a timm model; default %(default)s")
    args = parser.parse_args()
    images = prepare_images(args.images)
    warn_if_busy()
    storage = Path(tempfile.mkdtemp(prefix="raysweep-bench-final-"))
    try:
        run = run_search(images, storage, args)
        results = load_results(run)
        test = next(run.cache.glob("*-test"))
        bare_s = statistics.median(time_bare_pass(run, test) for _ in range(3))
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    parts = dict(results.test.durations_s)
    total_s = parts["total"]
    training_s = sum(trial.duration_s for trial in results.trials)
    search_s = results.duration_s - total_s
    share = total_s / search_s
    print("final evaluation: " + ", ".join(f"{name} {duration_s:.1f} s" for name, duration_s in parts.items()))
    finish(
        "final_evaluation",
        ratios={
            "share_of_search": bootstrap_median([share]),
            "over_bare_passes_of_both_models": bootstrap_median([total_s / (2 * bare_s)]),
        },
        n=1,
        values={
            "num_test": results.data.num_test,
            "parts_s": parts,
            "search_s": round(search_s, 1),
            "trials_s": round(training_s, 1),
            "bare_pass_s": round(bare_s, 2),
            "images": args.images,
            "model": args.model,
            "trials": args.trials,
        },
    )
    goal = "reached" if share <= MAX_SHARE or total_s <= MAX_S else "missed"
    print(f"goal of {MAX_SHARE} of the search or {MAX_S:g} s: {goal}")


if __name__ == "__main__":
    main()
