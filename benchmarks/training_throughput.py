"""Training images/s of a trial on Fashion-MNIST against a bare PyTorch loop.

Claim: the platform's loop (uint8 cache, normalisation, metrics, seeds by step) costs no speed against a hand-written
loop that holds the images as one float tensor.
Peer: the same CNN (0.8 million weights), batch 128, Adam, weight decay 1e-5, fp32, the same threads, denormals flushed
in both, in PyTorch's own memory layout; beside it the same with channels_last, the platform's default.
Both train one epoch of the same images in the same process with a fresh network, in turn, the order reversed each time;
evaluation and start-up are left out. Pairs are added until the interval of the median ratio is under 0.05 wide.
Apart from that: the same trial with augmentation at full strength, images/s in bf16, and start-up, the seconds of a
fresh process up to the end of its first batch.

    .venv/bin/python benchmarks/training_throughput.py [--data FOLDER]        # about 4 min on 2 cores

FOLDER has Fashion-MNIST's idx files. Default: $RAYSWEEP_DATA/fashion-mnist, ../shared/data/fashion-mnist beside the
checkout, /usr/share/datasets/fashion-mnist.

Measured (2 cores, Intel Xeon): 0.990 [0.976, 1.024], n = 6; against channels_last 1.014 [0.992, 1.040].
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import _bare_cnn
import numpy as np
import torch
from _report import Interval, alternate, bootstrap_median, finish, give_up, warn_if_busy

from raysweep import atomic_files, config_fields
from raysweep.config import AugmentationConfig, DataConfig, Objective, TrainingConfig
from raysweep.data.idx import find_idx_file, load_idx
from raysweep.data.images import DataInfo, PreparedData
from raysweep.data.sources.fashion_mnist import DEBIAN_FOLDER
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.loop import fit
from raysweep.train.precision import prepare_process, resolve_precision
from raysweep.trial_config import TrialConfig

BATCH, MAX_WIDTH, NUM_VAL = _bare_cnn.BATCH, 0.05, 128
SETUP = "import sys; from pathlib import Path; import torch; torch.set_flush_denormal(True); folder = Path(sys.argv[1])"
START_UP = {
    "bare": f"{SETUP}; import _bare_cnn as peer; peer.train(*peer.load_images(folder / 'train'))",
    "ours": f"{SETUP}; import training_throughput as ours; ours.measure_ours(ours.PreparedData.load(folder))",
}


def find_data(given: Path | None) -> Path:
    """The folder with Fashion-MNIST's idx files."""
    root = os.environ.get("RAYSWEEP_DATA")
    places = [Path(root) / "fashion-mnist"] if root else []
    places += [Path(__file__).resolve().parents[2] / "shared/data/fashion-mnist", DEBIAN_FOLDER]
    places = [given] if given else places
    for place in places:
        if find_idx_file(place, "train-images-idx3-ubyte") and find_idx_file(place, "train-labels-idx1-ubyte"):
            return place
    give_up(f"no Fashion-MNIST idx files in {', '.join(map(str, places))}; give their folder with --data")


def write_subset(source: Path, folder: Path, num_images: int) -> PreparedData:
    """The first images as the platform's cache of decoded images keeps them."""
    paths = [find_idx_file(source, f"train-{name}-ubyte") for name in ("images-idx3", "labels-idx1")]
    images, labels = (load_idx(path) for path in paths if path)
    if len(images) < num_images + NUM_VAL:
        give_up(f"--images must be at most {len(images) - NUM_VAL}, got {num_images}")
    bounds = {"train": (0, num_images), "val": (num_images, num_images + NUM_VAL)}
    return save_prepared(folder, {split: (images[i:j], labels[i:j]) for split, (i, j) in bounds.items()})


def save_prepared(folder: Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> PreparedData:
    """Images (N, 28, 28) uint8 and labels (N,) of `train` and `val` as the platform's cache keeps them."""
    for split, (images, labels) in splits.items():
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", images[:, :, :, None])
        np.save(folder / split / "labels.npy", labels.astype(np.int64))
        np.save(folder / split / "rows.npy", np.arange(len(labels)))
    info = DataInfo(
        source="fashion-mnist", synthetic=False, digest="", classes=tuple("0123456789"),
        num_train=len(splits["train"][1]), num_val=len(splits["val"][1]), num_test=0,
    )  # fmt: skip
    atomic_files.write_json(folder / "info.json", config_fields.to_json(info))
    return PreparedData.load(folder)


def measure_ours(data: PreparedData, precision: Literal["fp32", "bf16"] = "fp32", strength: float = 0.0) -> float:
    """Images/s that a trial of one epoch reports: the training phase, batches gathered and normalised within."""
    config = TrialConfig(
        task=ClassificationConfig(
            model="fashion_cnn", dropout=0.5, learning_rate=1e-3, weight_decay=1e-5, schedule="plateau"
        ),
        data=DataConfig(
            source="fashion-mnist",
            image_size=28,
            channels=1,
            normalization="unit",
            augmentation=AugmentationConfig(strength=strength),
        ),
        training=TrainingConfig(epochs=1, batch_size=BATCH, precision=precision),
    )
    state = fit(config, data, Objective(metric="val/accuracy"), report=lambda report: None)
    return state.history[0]["train/images_per_s"]


def time_start_up(part: str, data: PreparedData) -> float:
    """Seconds of a fresh process: imports, one epoch of one batch, and its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", START_UP[part], str(data.folder)], check=True, cwd=Path(__file__).parent)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="Fashion-MNIST's idx files")
    parser.add_argument("--images", type=int, default=12_800, help="in each measurement; default %(default)s")
    parser.add_argument("--pairs", type=int, nargs=2, default=(7, 25), metavar=("MIN", "MAX"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    args = parser.parse_args()
    source = find_data(args.data)
    warn_if_busy()
    prepare_process(args.threads)
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        data = write_subset(source, Path(temporary) / "epoch", args.images)
        one_batch = write_subset(source, Path(temporary) / "batch", BATCH)
        pairs = measure_pairs(data, *args.pairs)
        bf16 = [measure_ours(data, "bf16") for _ in range(3)]
        starts = [alternate({part: partial(time_start_up, part, one_batch) for part in START_UP}, i) for i in (0, 1)]
    speeds = {part: statistics.median(pair[part] for pair in pairs) for part in pairs[0]}
    start_up = {part: min(start[part] for start in starts) for part in START_UP}
    native = resolve_precision("auto", torch.device("cpu")) == "bf16"
    print(f"median images/s: {', '.join(f'{part} {speed:,.0f}' for part, speed in speeds.items())}")
    print(
        f"bf16 autocast: ours {statistics.median(bf16):,.0f} images/s; `auto` takes {'bf16' if native else 'fp32'} here"
    )
    print(f"start-up, a fresh process of one batch: ours {start_up['ours']:.1f} s, bare loop {start_up['bare']:.1f} s")
    finish(
        "training_throughput",
        ratios={
            "ours_over_bare": ratio_of(pairs, "bare"),
            "ours_over_bare_channels_last": ratio_of(pairs, "bare_channels_last"),
            "augmented_over_ours": bootstrap_median([pair["augmented"] / pair["ours"] for pair in pairs]),
        },
        n=len(pairs),
        values={
            "images_per_s": speeds,
            "bf16_images_per_s": statistics.median(bf16),
            "auto_is_bf16": native,
            "start_up_s": start_up,
            "num_images": args.images,
            "threads": args.threads,
        },
    )


def measure_pairs(data: PreparedData, fewest: int, most: int) -> list[dict[str, float]]:
    """Images/s of ours and of the peer in both layouts, in turn, after a short run of each."""
    images, labels = _bare_cnn.load_images(data.folder / "train")
    parts = {
        "bare": lambda: _bare_cnn.train(images, labels),
        "ours": lambda: measure_ours(data),
        "augmented": lambda: measure_ours(data, strength=1.0),
        "bare_channels_last": lambda: _bare_cnn.train(images, labels, channels_last=True),
    }
    alternate(parts, 0)
    pairs: list[dict[str, float]] = []
    while len(pairs) < fewest or (len(pairs) < most and ratio_of(pairs, "bare").width >= MAX_WIDTH):
        pairs.append(alternate(parts, len(pairs)))
        speeds = ", ".join(f"{part} {speed:,.0f}" for part, speed in pairs[-1].items())
        print(f"pair {len(pairs)}: images/s: {speeds}; ours/bare so far {ratio_of(pairs, 'bare')}", flush=True)
    return pairs


def ratio_of(pairs: list[dict[str, float]], peer: str) -> Interval:
    """Ours over the peer, pair by pair."""
    return bootstrap_median([pair["ours"] / pair[peer] for pair in pairs])


if __name__ == "__main__":
    main()
