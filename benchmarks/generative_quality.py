"""What the generative studies' baselines reach, against bare PyTorch loops on the same training images.

Claim: after as many epochs, the baseline of `fashion_autoencoder` has at most 1.05 times the squared error per pixel
of a hand-written loop, and the generator of `mnist_dcgan` at most 1.05 times the Frechet distance, by the same judge.
Peer: the loops of _bare_generative.py, fp32; ours in the precision that a trial takes here. Both are given the study's
own training images, each seed is a pair; the mean over seeds of the ratio counts. Errors are of the 10,000 test
images, distances of 10,000 generated images against them. Ours is trained by `fit`, as in a trial.

    .venv/bin/python benchmarks/generative_quality.py [--data FOLDER] [--only PART ...] [--seeds N] [--images N]

FOLDER holds mnist/ and fashion-mnist/. Default: $RAYSWEEP_DATA, ../shared/data beside the checkout. One training a
core at a time; on 2 cores about 40 min for the DCGAN (3 epochs), longer for the autoencoder (20 epochs).

Measured with `--images 12000`, the first 12,000 training images: fashion_autoencoder, mean ratio 1.018 over 3 seeds
(0.988, 0.988, 1.079). With `--images 24000`: mnist_dcgan, mean ratio 0.945 over 3 seeds (0.796, 0.848, 1.190).
"""

import argparse
import dataclasses
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import _bare_generative as bare
import numpy as np
import ray
import torch
from _report import bootstrap_median, finish, give_up
from torch import nn

from raysweep import atomic_files, config_fields
from raysweep.catalogue import load_study
from raysweep.cluster.connection import connect
from raysweep.data import pipeline
from raysweep.data.images import ImageSet, PreparedData
from raysweep.data.sources import load_source
from raysweep.study import Study
from raysweep.tasks.gan.judge.network import judge_batches, load_judge
from raysweep.tasks.gan.judge.store import ensure_judge
from raysweep.tasks.gan.scores import frechet_distance
from raysweep.train.loop import fit
from raysweep.train.precision import prepare_process

EPOCHS = {"fashion_autoencoder": 20, "mnist_dcgan": 3}
NUM_GENERATED = 10_000
BATCH = 500


def train(name: str, who: str, seed: int, epochs: int, folder: Path, test: Path) -> float:
    """The figure of one training in a process of its own, with one thread."""
    prepare_process(1)
    data = PreparedData.load(folder)
    network = train_ours(name, seed, epochs, data) if who == "ours" else train_bare(name, seed, epochs, data)
    images = bare.load_images(test)
    measure = measure_error if name == "fashion_autoencoder" else measure_distance
    figure = measure(network.eval(), images, data)
    print(f"{name} seed {seed} {who}: {figure:.5f}", flush=True)
    return figure


def train_ours(name: str, seed: int, epochs: int, data: PreparedData) -> nn.Module:
    """What makes images of a study's baseline: values in the range of the bare loop's."""
    study = dataclasses.replace(load_study(name), seed=seed)
    config = study.trial_config({}, 0)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=epochs))
    modules = fit(config, data, study.objective, report=lambda report: None).best_modules()
    return nn.Sequential(modules["model"], FirstSigmoid()) if "model" in modules else modules["generator"]


class FirstSigmoid(nn.Module):
    """The image of an autoencoder's logits, which come with mean and log variance of the code."""

    def forward(self, outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return outputs[0].sigmoid()


def train_bare(name: str, seed: int, epochs: int, data: PreparedData) -> nn.Module:
    """What makes images after the bare loop."""
    torch.manual_seed(seed)
    images = load_split(data.train)
    if name == "fashion_autoencoder":
        return bare.train_autoencoder(images, epochs)[0]
    return bare.train_gan(images.mul(2).sub(1), dense=False, epochs=epochs)[0]


def load_split(images: ImageSet) -> torch.Tensor:
    """All images of a split, (N, 1, 28, 28) float32 in [0, 1]."""
    pixels = torch.from_numpy(images.gather(np.arange(len(images))))
    return pixels.permute(0, 3, 1, 2).contiguous().float().div(255)


@torch.inference_mode()
def measure_error(network: nn.Module, images: torch.Tensor, data: PreparedData) -> float:
    """Squared error per pixel of test images (N, 1, 28, 28) in [0, 1]."""
    errors = [(network(part) - part).double().square().mean(dim=(1, 2, 3)) for part in images.split(BATCH)]  # type: ignore[no-untyped-call]
    return float(torch.cat(errors).mean())


@torch.inference_mode()
def measure_distance(network: nn.Module, images: torch.Tensor, data: PreparedData) -> float:
    """Frechet distance of images of the same noise for all generators to the test images, by the platform's judge."""
    judge, _ = load_judge(ensure_judge(data))
    noise = torch.randn(NUM_GENERATED, bare.LATENT, generator=torch.Generator().manual_seed(0))

    def generate() -> Iterator[torch.Tensor]:
        for part in noise.split(BATCH):  # type: ignore[no-untyped-call]
            yield network(part).add(1).div(2).mul(255).round().div(255)

    real, _ = judge_batches(judge, iter(images.split(BATCH)))  # type: ignore[no-untyped-call]
    fake, _ = judge_batches(judge, generate())
    return frechet_distance(real, fake)


def prepare(study: Study, root: Path, cache: Path, num_images: int | None) -> tuple[Path, Path]:
    """The folders of a study's decoded images, the first so many of its training images, and of its test images."""
    source = load_source(study.data.source, split_seed=study.data.split_seed, storage=cache, data_root=root)
    data, test = pipeline.prepare(source, study.data, cache)
    labels, rows = (data.folder / "train" / f"{name}.npy" for name in ("labels", "rows"))
    if num_images is not None:
        info = {**config_fields.to_json(data.info), "num_train": min(num_images, data.info.num_train)}
        atomic_files.write_json(data.folder / "info.json", info)
        for path in (labels, rows):
            np.save(path, np.load(path)[:num_images])
        data = PreparedData.load(data.folder)
    study.task.prepare(data)  # the judge of generated images
    return data.folder, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the folder of mnist/ and fashion-mnist/")
    parser.add_argument("--only", choices=EPOCHS, nargs="+", default=list(EPOCHS), help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="pairs; default: 3")
    parser.add_argument("--epochs", type=int, help="default: the reports' 20 and 3")
    parser.add_argument("--images", type=int, metavar="N", help="train on the first N; default: all 48,000")
    args = parser.parse_args()
    beside = Path(__file__).resolve().parents[2] / "shared/data"
    root = args.data or Path(os.environ.get("RAYSWEEP_DATA", beside))
    if not root.is_dir():
        give_up(f"no folder {root}; give the one that holds mnist/ and fashion-mnist/ with --data")
    ratios, means, figures = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-") as temporary:
        connect("local")
        folders = {name: prepare(load_study(name), root, Path(temporary), args.images) for name in args.only}
        ray.shutdown()
        jobs = [(name, seed, who) for name in args.only for seed in range(args.seeds) for who in ("ours", "bare")]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
            running = {
                (name, seed, who): pool.submit(train, name, who, seed, args.epochs or EPOCHS[name], *folders[name])
                for name, seed, who in jobs
            }
            found = {job: future.result() for job, future in running.items()}
    for name in args.only:
        pairs = [(found[name, seed, "ours"], found[name, seed, "bare"]) for seed in range(args.seeds)]
        by_seed = [ours / peer for ours, peer in pairs]
        ratios[name], means[name] = bootstrap_median(by_seed), float(np.mean(by_seed))
        figures[name] = [{"ours": round(ours, 6), "bare": round(peer, 6)} for ours, peer in pairs]
    epochs = {name: args.epochs or EPOCHS[name] for name in args.only}
    values = {"mean_ratio": means, "pairs": figures, "epochs": epochs, "num_images": args.images or "all"}
    for name, mean in means.items():
        print(f"{name}: mean ratio over {args.seeds} seeds {mean:.3f}")
    finish("generative_quality", ratios=ratios, n=args.seeds, values=values)


if __name__ == "__main__":
    main()
