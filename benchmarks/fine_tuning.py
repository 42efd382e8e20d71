"""Fine-tuning on photographs, pretrained weights against none: test accuracy after the same epochs, 3 seeds.

Claim: with pretrained weights the test accuracy is at least 1.5 times that from scratch at the same budget, and at
least that of a bare script with the same weights, network, epochs, images and optimizer.
Peer: a script without a framework (`--peer FILE`, called with `FOLDER --weights W --model M --size S --epochs E
--seed N`, whose last line has "test ACCURACY, SECONDS s"); left out without `--peer`.
Ours is the plain command of a user, one trial with all cores, decoding and the final evaluation included in its
seconds; the decoded images are kept from the first run on. The runs of one seed follow each other.

    .venv/bin/python benchmarks/fine_tuning.py FOLDER --weights efficientnet_lite0.pth --peer clothing.py
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
from _report import alternate, bootstrap_median, finish, give_up, warn_if_busy


def rename_tensors(weights: Path, model: str, place: Path) -> Path:
    """Writes weights with the names of timm's network, whose tensors they are in order; returns the new file."""
    tensors = [tensor for name, tensor in torch.load(weights, weights_only=True).items() if "num_batches" not in name]
    names = [name for name in timm.create_model(model).state_dict() if "num_batches" not in name]
    torch.save(dict(zip(names, tensors, strict=True)), place)
    return place


def tune(arguments: argparse.Namespace, storage: Path, seed: int, pretrained: str) -> tuple[float, float]:
    """Trains one configuration as a user does; returns its test accuracy and the command's seconds."""
    name = f"{'scratch' if pretrained == 'false' else 'pretrained'}-{seed}"
    fixed = {
        "task.model": arguments.model, "task.pretrained": pretrained, "task.head": "linear", "task.optimizer": "adam",
        "task.backbone_factor": 1, "task.learning_rate": 1e-3, "task.schedule": "one_cycle",
        "training.epochs": arguments.epochs, "training.batch_size": 32, "data.image_size": arguments.size,
        "data.augmentation.strength": 0.2,
    }  # fmt: skip
    command = [
        *(sys.executable, "-m", "platform.tune", "car_resnet", "--data", arguments.folder, "--trials", "1"),
        *("--cpus-per-worker", str(os.cpu_count()), "--seed", str(seed), "--name", name, "--storage", storage),
        *("--wandb", "disabled", "--address", "local", *(f"--set={key}={value}" for key, value in fixed.items())),
    ]
    began = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        give_up(f"{' '.join(map(str, command))} must end well:\n{done.stderr[-2000:]}")
    took = time.perf_counter() - began
    return json.loads((storage / name / "results.json").read_text())["test"]["accuracy"], took


def run_peer(arguments: argparse.Namespace, seed: int) -> tuple[float, float]:
    """Returns what the bare script prints on its last line."""
    command = [
        *(sys.executable, arguments.peer, arguments.folder, "--weights", arguments.weights, "--model", arguments.model),
        *("--size", arguments.size, "--epochs", arguments.epochs, "--seed", seed),
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    found = re.search(r"test ([0-9.]+), ([0-9.]+) s", done.stdout.strip().splitlines()[-1])
    if found is None:
        give_up(f'the last line of {arguments.peer} must have "test ACCURACY, SECONDS s", got {done.stdout[-200:]!r}')
    return float(found[1]), float(found[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warn_if_busy()
    accuracy: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = str(rename_tensors(arguments.weights, arguments.model, Path(folder) / "weights.pth"))
        for seed in range(arguments.seeds):
            parts = {
                "pretrained": lambda seed=seed: tune(arguments, Path(folder), seed, weights),
                "scratch": lambda seed=seed: tune(arguments, Path(folder), seed, "false"),
            }
            if arguments.peer:
                parts["peer"] = lambda seed=seed: run_peer(arguments, seed)
            for name, (reached, took) in alternate(parts, seed).items():
                accuracy.setdefault(name, []).append(reached)
                seconds.setdefault(name, []).append(took)
                print(f"seed {seed}, {name}: test accuracy {reached:.4f}, {took:.0f} s", flush=True)
    ratios = {
        f"pretrained over {other}": bootstrap_median(
            [ours / theirs for ours, theirs in zip(accuracy["pretrained"], accuracy[other], strict=True)]
        )
        for other in accuracy
        if other != "pretrained"
    }
    finish("fine_tuning", ratios=ratios, n=arguments.seeds, values={"accuracy": accuracy, "seconds": seconds})


if __name__ == "__main__":
    main()
