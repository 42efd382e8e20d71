"""Training images/s of the generative studies' baselines against bare PyTorch loops.

Claim: a trial of `fashion_autoencoder`, `mnist_dcgan` or `mnist_gan` trains at least 0.95 times as fast as a
hand-written loop of the same networks, losses and optimizers that holds the images as one float tensor.
Peer: the loops of _bare_generative.py, batch 128, fp32, the same threads, denormals flushed in both.
Both train one epoch of the same images in the same process with fresh networks, in turn, the order reversed each time;
evaluation and start-up are left out. Pairs are added until the interval of the median ratio is under 0.05 wide.
Apart from that: images/s in bf16.

    .venv/bin/python benchmarks/generative_throughput.py [--data FOLDER] [--only PART ...]    # about 15 min on 2 cores

FOLDER has the idx files of MNIST; Fashion-MNIST does as well, the speed is the same. Default: $RAYSWEEP_DATA/mnist,
../shared/data/mnist beside the checkout.

Measured (2 cores, AMD EPYC): fashion_autoencoder 0.997 [0.953, 1.052] (n = 11), mnist_dcgan 1.10 [1.08, 1.17],
mnist_gan 1.02 [0.96, 1.09] (n = 7).
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import _bare_generative as bare
import torch
from _report import Interval, alternate, bootstrap_median, finish, give_up, warn_if_busy
from training_throughput import write_subset

from raysweep.catalogue import load_study
from raysweep.data.idx import find_idx_file
from raysweep.data.images import PreparedData
from raysweep.study import Study
from raysweep.train.loop import fit
from raysweep.train.precision import prepare_process, resolve_precision
from raysweep.trial_config import TrialConfig

MAX_WIDTH = 0.05
PEERS: dict[str, Callable[[torch.Tensor], float]] = {
    "fashion_autoencoder": lambda images: bare.train_autoencoder(images)[1],
    "mnist_dcgan": lambda images: bare.train_gan(images.mul(2).sub(1), dense=False)[1],
    "mnist_gan": lambda images: bare.train_gan(images.mul(2).sub(1), dense=True)[1],
}
NUM_IMAGES = {"fashion_autoencoder": 5_120, "mnist_dcgan": 3_840, "mnist_gan": 25_600}
"""Each takes a few seconds on two cores."""


def find_data(given: Path | None) -> Path:
    """The folder with MNIST's idx files."""
    root = os.environ.get("RAYSWEEP_DATA")
    places = [Path(root) / "mnist"] if root else []
    places = [given] if given else [*places, Path(__file__).resolve().parents[2] / "shared/data/mnist"]
    for place in places:
        if find_idx_file(place, "train-images-idx3-ubyte") and find_idx_file(place, "train-labels-idx1-ubyte"):
            return place
    give_up(f"no MNIST idx files in {', '.join(map(str, places))}; give their folder with --data")


def measure_ours(study: Study, data: PreparedData, precision: Literal["fp32", "bf16"] = "fp32") -> float:
    """Images/s that a trial of one epoch reports: the training phase, batches gathered and normalised within."""
    training = dataclasses.replace(study.training, epochs=1, precision=precision)
    config = TrialConfig(task=study.task, data=study.data, training=training)
    state = fit(config, data, study.objective, report=lambda report: None)
    return state.history[0]["train/images_per_s"]


def measure_pairs(study: Study, data: PreparedData, fewest: int, most: int) -> list[dict[str, float]]:
    """Images/s of ours and of the peer, in turn, after a short run of each."""
    images = bare.load_images(data.folder / "train")
    parts = {"bare": lambda: PEERS[study.name](images), "ours": lambda: measure_ours(study, data)}
    alternate(parts, 0)
    pairs: list[dict[str, float]] = []
    while len(pairs) < fewest or (len(pairs) < most and ratio_of(pairs).width >= MAX_WIDTH):
        pairs.append(alternate(parts, len(pairs)))
        speeds = ", ".join(f"{part} {speed:,.0f}" for part, speed in pairs[-1].items())
        print(f"{study.name} pair {len(pairs)}: images/s: {speeds}; ours/bare so far {ratio_of(pairs)}", flush=True)
    return pairs


def ratio_of(pairs: list[dict[str, float]]) -> Interval:
    """Ours over the peer, pair by pair."""
    return bootstrap_median([pair["ours"] / pair["bare"] for pair in pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="MNIST's idx files")
    parser.add_argument("--only", choices=PEERS, nargs="+", default=list(PEERS), help="default: all")
    parser.add_argument("--pairs", type=int, nargs=2, default=(7, 25), metavar=("MIN", "MAX"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    args = parser.parse_args()
    source = find_data(args.data)
    warn_if_busy()
    prepare_process(args.threads)
    pairs, bf16 = {}, {}
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        for name in args.only:
            study = load_study(name)
            data = write_subset(source, Path(temporary) / name, NUM_IMAGES[name])
            study.task.prepare(data)
            pairs[name] = measure_pairs(study, data, *args.pairs)
            bf16[name] = statistics.median(measure_ours(study, data, "bf16") for _ in range(3))
    speeds = {
        name: {part: statistics.median(pair[part] for pair in runs) for part in ("bare", "ours")}
        for name, runs in pairs.items()
    }
    native = resolve_precision("auto", torch.device("cpu")) == "bf16"
    for name, speed in speeds.items():
        print(f"{name}: median images/s: bare {speed['bare']:,.0f}, ours {speed['ours']:,.0f}, bf16 {bf16[name]:,.0f}")
    print(f"`auto` takes {'bf16' if native else 'fp32'} here")
    finish(
        "generative_throughput",
        ratios={name: ratio_of(runs) for name, runs in pairs.items()},
        n=min(len(runs) for runs in pairs.values()),
        values={
            "num_pairs": {name: len(runs) for name, runs in pairs.items()},
            "images_per_s": speeds,
            "bf16_images_per_s": bf16,
            "auto_is_bf16": native,
            "num_images": {name: NUM_IMAGES[name] for name in pairs},
            "threads": args.threads,
        },
    )


if __name__ == "__main__":
    main()
