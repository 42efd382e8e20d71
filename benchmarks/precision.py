"""What `training.precision=auto` takes for a network, against bf16 and fp32 throughout: images/s of training steps.

Claim: `auto` is at least 0.95 times as fast as the better of the two for each network, its choice is made in a few
seconds, and it costs nothing on a machine without units for bf16.
Peer: the same training step in fp32 and in bf16, channels last, in turn (ABBA), on copies of one state.
Networks: those of which the one is faster in bf16 and the other in fp32 on CPUs with units for it.
The choice is made before, once for a network, as the first trial of a run makes it.

    .venv/bin/python benchmarks/precision.py        # about 2 min on 2 cores
"""

import argparse
import copy
import dataclasses
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from _report import alternate, bootstrap_median, finish, warn_if_busy

from raysweep.config import DataConfig, TrainingConfig
from raysweep.data.batches import CPU, Batch, Worker
from raysweep.data.images import DataInfo, PreparedData
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.number_format import measure_format
from raysweep.train.precision import prepare_process, resolve_precision
from raysweep.train.task import build_task
from raysweep.trial_config import TrialConfig

NETWORKS, SIDE, BATCH, GOAL = ("resnet18", "efficientnet_lite0"), 128, 32, 0.95
Precision = Literal["fp32", "bf16"]


def build_config(model: str) -> TrialConfig:
    return TrialConfig(
        task=ClassificationConfig(model=model, learning_rate=1e-4),
        data=DataConfig(image_size=SIDE),
        training=TrainingConfig(batch_size=BATCH, precision="auto"),
    )


def measure_speeds(
    config: TrialConfig, data: PreparedData, formats: dict[str, tuple[Precision, bool]], repeats: int, steps: int
) -> list[dict[str, float]]:
    """Images/s of some training steps in each format, in turn, after one step of each."""
    task = build_task(config, data.info)
    state = task.init_state(Worker(), lambda module: module)
    images = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(BATCH) % len(data.info.classes)
    batch = Batch(images, labels, labels.numpy())
    tasks, states = {}, {}
    for name, (precision, channels_last) in formats.items():
        tasks[name], states[name] = copy.copy(task), copy.deepcopy(state)
        tasks[name].training = dataclasses.replace(task.training, precision=precision, channels_last=channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        states[name].modules["model"].to(memory_format=layout)
        tasks[name].train_step(states[name], batch)

    def run(name: str) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            tasks[name].train_step(states[name], batch)
        return steps * BATCH / (time.perf_counter() - began)

    return [alternate({name: partial(run, name) for name in formats}, repeat) for repeat in range(repeats)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="fashion_cnn or timm models")
    parser.add_argument("--repeats", type=int, default=7, help="of each measurement; default %(default)s")
    parser.add_argument("--steps", type=int, default=3, help="training steps of a measurement; default %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    args = parser.parse_args()
    warn_if_busy()
    prepare_process(args.threads)
    native = resolve_precision("auto", CPU) == "bf16"
    if not native:
        print("no units for bf16 on this machine: auto is fp32, and nothing is measured", flush=True)
    info = DataInfo(
        source="noise", synthetic=True, digest="", classes=tuple("abcdef"), num_train=BATCH, num_val=0, num_test=0
    )
    data = PreparedData(folder=Path(tempfile.gettempdir()), info=info)
    ratios, values = {}, {}
    for model in args.networks:
        config = build_config(model)
        began = time.perf_counter()
        taken: tuple[Precision, bool] = ("fp32", True)
        if native:
            found = measure_format(config, data, Worker())
            taken = found.precision, found.channels_last
        duration_s = time.perf_counter() - began
        formats: dict[str, tuple[Precision, bool]] = {"auto": taken, "fp32": ("fp32", True), "bf16": ("bf16", True)}
        pairs = measure_speeds(config, data, formats, args.repeats, args.steps)
        ratios[f"{model}_auto_over_better"] = bootstrap_median(
            [pair["auto"] / max(pair["fp32"], pair["bf16"]) for pair in pairs]
        )
        ratios[f"{model}_auto_over_bf16"] = bootstrap_median([pair["auto"] / pair["bf16"] for pair in pairs])
        speeds = {name: round(bootstrap_median([pair[name] for pair in pairs]).median, 1) for name in formats}
        values[model] = {"auto": list(taken), "chosen_in_s": round(duration_s, 2), "images_per_s": speeds}
        print(f"{model}: auto takes {taken}, found in {duration_s:.1f} s; images/s {speeds}", flush=True)
    finish("precision", ratios=ratios, n=args.repeats, values=values)
    missed = [name for name, ratio in ratios.items() if name.endswith("better") and ratio.median < GOAL]
    print(f"goal {GOAL}: {'missed by ' + ', '.join(missed) if missed else 'reached'}")


if __name__ == "__main__":
    main()
