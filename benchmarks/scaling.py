"""Images/s of k trials side by side and of a DDP trial of k workers, against bare PyTorch; and 100 nodes on paper.

Claim: k one-CPU trials train at least 0.97 times as fast as k bare loops side by side, and a trial of k workers at
least 0.97 times as fast as a bare loop under torchrun with k workers; start-up and evaluation left out.
Ours: `raysweep.search.run.run_study` as the command line calls it, Ray Data, Ray Tune, Optuna journal and checkpoints
included; each trial's own images/s, the median of its epochs after the first two, summed over trials. Peers:
_bare_ddp.py, the same network, batch (global), threads (one a worker) and images, fp32, gloo. In turn, the order
reversed each time.

On paper: what one trial a node on 100 nodes asks of the parts they share, from costs measured here: the driver's CPU
time for each report (the slope over tiny epochs), the bytes of a report through the head's object store and network,
and of an epoch's checkpoints through the storage. The part that is busy all the time first sets the shortest epoch.
Assumed: storage of 100 MB/s, what AWS EFS gives small file systems (--storage-mb-per-s), and a head with 125 MB/s.
Images are not in it: they come from the cache on the storage, once a node.

    .venv/bin/python benchmarks/scaling.py [--data FOLDER]        # about 25 min on 2 cores

FOLDER has Fashion-MNIST's idx files; default as in training_throughput.py.

Measured on 2 cores: 1.05 [0.83, 1.13] for one trial, 0.99 [0.95, 1.00] for two side by side (n = 5 pairs), 0.93 [0.87,
0.94] for DDP with two workers (n = 7): that goal was missed. Ray's own processes take a tenth of a core there.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ray
import ray.cloudpickle as cloudpickle
from _bare_cnn import BATCH
from _report import Interval, alternate, bootstrap_median, finish, give_up, warn_if_busy
from training_throughput import find_data

from raysweep.catalogue import load_study
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.data.idx import find_idx_file, load_idx
from raysweep.data.images import DataInfo
from raysweep.run_folder import RunFolder
from raysweep.search.options import RunOptions
from raysweep.search.run import run_study
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.report import EpochReport, pack_report
from raysweep.train.task import build_task

PEER = Path(__file__).with_name("_bare_ddp.py")
NUM_TEST, NUM_TINY = 256, 320
NUM_NODES = 100
HEAD_BYTES_PER_S = 125e6


def write_idx(source: Path, folder: Path, num_train: int) -> Path:
    """The first images of Fashion-MNIST as idx files of their own."""
    folder.mkdir()
    for split, count in (("train", num_train), ("t10k", NUM_TEST)):
        for name, kind in (("images", "idx3"), ("labels", "idx1")):
            path = find_idx_file(source, f"{split}-{name}-{kind}-ubyte")
            if path is None:
                give_up(f"{source} has no {split}-{name}-{kind}-ubyte")
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                head = file.read(16 if kind == "idx3" else 8)
                body = file.read(count * (784 if kind == "idx3" else 1))
            (folder / f"{split}-{name}-{kind}-ubyte").write_bytes(head[:4] + struct.pack(">I", count) + head[8:] + body)
    return folder


def run_ours(source: Path, storage: Path, *, trials: int, workers: int, epochs: int) -> list[list[float]]:
    """Images/s of each epoch of each trial."""
    study = Study(
        name="scaling",
        task=ClassificationConfig(
            model="fashion_cnn", dropout=0.5, learning_rate=1e-3, weight_decay=1e-5, schedule="plateau"
        ),
        data=DataConfig(source=str(source), image_size=28, channels=1, normalization="unit"),
        training=TrainingConfig(epochs=epochs, batch_size=BATCH, precision="fp32"),
        space={},
        objective=Objective(metric="val/accuracy"),
        budget=Budget(trials=trials),
    )
    shutil.rmtree(storage / "run", ignore_errors=True)
    options = RunOptions(
        storage=storage, name="run", address="local", num_workers=workers, cpus_per_worker=1, wandb="disabled"
    )
    trials_ended = run_study(study, options).results.trials
    ray.shutdown()
    assert [trial.state for trial in trials_ended] == ["COMPLETE"] * trials, trials_ended
    histories = sorted((storage / "run/trials").glob("*/metrics.jsonl"))
    return [[json.loads(line)["train/images_per_s"] for line in path.read_text().splitlines()] for path in histories]


def run_bare(images: Path, *, processes: int, workers: int, epochs: int) -> list[list[float]]:
    """Images/s of each epoch of each of so many loops side by side, DDP with more than one worker."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"] if workers > 1 else []
    command = [sys.executable, *launch, str(PEER), str(images), str(epochs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=PEER.parent)
        for _ in range(processes)
    ]
    outputs = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started), outputs
    return [json.loads(output) for output in outputs]


def steady_speed(runs: list[list[float]]) -> float:
    """Images/s of all together: the median of each one's epochs after the first two, summed."""
    return sum(statistics.median(speeds[2:]) for speeds in runs)


def measure_pairs(
    source: Path, images: Path, storage: Path, size: tuple[int, int], args: argparse.Namespace
) -> Interval:
    """Ours over the peer for so many trials side by side of so many workers."""
    trials, workers = size
    parts: dict[str, Callable[[], float]] = {
        "ours": lambda: steady_speed(run_ours(source, storage, trials=trials, workers=workers, epochs=args.epochs)),
        "bare": lambda: steady_speed(run_bare(images, processes=trials, workers=workers, epochs=args.epochs)),
    }
    ratios = []
    for repeat in range(args.pairs):
        speeds = alternate(parts, repeat)
        ratios.append(speeds["ours"] / speeds["bare"])
        print(
            f"{trials} trial(s) of {workers} worker(s): ours {speeds['ours']:,.0f}, bare {speeds['bare']:,.0f} "
            f"images/s, ratio {ratios[-1]:.3f}",
            flush=True,
        )
    return bootstrap_median(ratios)


def driver_s_per_report(source: Path, storage: Path) -> float:
    """CPU seconds of this process for one more epoch of a trial: report, decision, journal, Ray Tune's loop."""

    def cpu_s(epochs: int) -> float:
        began = time.process_time()
        run_ours(source, storage, trials=1, workers=1, epochs=epochs)
        return time.process_time() - began

    return (cpu_s(120) - cpu_s(20)) / 100


def checkpoint_bytes(study: Study, num_classes: int) -> int:
    """What its baseline writes an epoch: weights, Adam's two moments, and the weights again where they improved."""
    info = DataInfo(
        source="", synthetic=False, digest="", classes=tuple(map(str, range(num_classes))),
        num_train=1, num_val=1, num_test=1,
    )  # fmt: skip
    modules = build_task(study.trial_config(study.baseline, 0), info).load_modules()
    return 4 * sum(p.numel() * p.element_size() for module in modules.values() for p in module.parameters())


def report_bytes(run: Path) -> int:
    """A report of the last run's first trial as Ray sends it."""
    row = json.loads(RunFolder(run).trial(0).metrics.read_text().splitlines()[-1])
    report = EpochReport(metrics=row, value=0.5, best_value=0.5, best_epoch=1, finished=False)
    return len(cloudpickle.dumps(pack_report(report)))  # type: ignore[no-untyped-call]


def print_paper(driver_s: float, size_of_report: int, storage_bytes_per_s: float) -> dict[str, float]:
    """The shortest epoch in seconds that 100 nodes with a trial each can have, by the part that is busy then."""
    shortest = {"driver": NUM_NODES * driver_s, "object store": NUM_NODES * size_of_report / HEAD_BYTES_PER_S}
    print(f"\n{NUM_NODES} nodes, a trial each; the shortest epoch by the part that is then busy all the time:")
    print(f"  driver: {shortest['driver']:.2g} s, at {1000 * driver_s:.1f} ms a report")
    print(f"  object store of the head: {shortest['object store']:.2g} s, at {size_of_report:,} bytes a report")
    for name, num_classes in (("fashion_cnn", 10), ("car_resnet", 13)):
        size = checkpoint_bytes(load_study(name), num_classes)
        shortest[f"storage, {name}"] = NUM_NODES * size / storage_bytes_per_s
        print(
            f"  storage, {name}: {shortest[f'storage, {name}']:.2g} s, at {size / 1e6:.1f} MB of checkpoints an epoch"
        )
    return {part: round(seconds, 5) for part, seconds in shortest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="Fashion-MNIST's idx files")
    parser.add_argument("--images", type=int, default=8_000, help="a fifth is for validation; default %(default)s")
    parser.add_argument("--epochs", type=int, default=6, help="the first two do not count; default %(default)s")
    parser.add_argument("--pairs", type=int, default=5, help="of each size; default %(default)s")
    parser.add_argument("--sizes", nargs="+", metavar="TxW", help="T trials of W workers; default: up to the cores")
    parser.add_argument("--storage-mb-per-s", type=float, default=100.0, metavar="F", help="default %(default)s")
    args = parser.parse_args()
    given = find_data(args.data)
    warn_if_busy()
    cores = len(os.sched_getaffinity(0))
    all_sizes = [(trials, 1) for trials in range(1, cores + 1)] + [(1, workers) for workers in range(2, cores + 1)]
    sizes = [tuple(map(int, size.split("x"))) for size in args.sizes] if args.sizes else all_sizes
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        folder = Path(temporary)
        source = write_idx(given, folder / "idx", args.images)
        images = folder / "bare"
        images.mkdir()
        num_train = args.images - args.images // 5
        np.save(images / "images.npy", load_idx(source / "train-images-idx3-ubyte")[:num_train, :, :, None])
        np.save(images / "labels.npy", load_idx(source / "train-labels-idx1-ubyte")[:num_train].astype(np.int64))
        ratios = {
            f"{trials}_trials_of_{workers}_workers": measure_pairs(source, images, folder, (trials, workers), args)
            for trials, workers in sizes
        }
        driver_s = driver_s_per_report(write_idx(given, folder / "tiny", NUM_TINY), folder)
        size_of_report = report_bytes(folder / "run")
    shortest = print_paper(driver_s, size_of_report, 1e6 * args.storage_mb_per_s)
    finish(
        "scaling",
        ratios=ratios,
        n=args.pairs,
        values={
            "driver_s_per_report": driver_s,
            "report_bytes": size_of_report,
            "shortest_epoch_s_of_100_nodes": shortest,
            "cores": cores,
        },
    )


if __name__ == "__main__":
    main()
