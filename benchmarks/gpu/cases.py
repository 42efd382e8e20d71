"""What has to be right on a card: each case prints `ok` or `WRONG` with what was seen, and none ends the others."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed
from torch import nn

from gpu.trainer import HEAVY, HOST_ONLY, QUICK, Size, are_finite, draw_data, load
from raysweep.data.batches import Worker
from raysweep.errors import TrialError
from raysweep.run_folder import TrialFolder
from raysweep.train import loop
from raysweep.train.device import choose_device, is_out_of_memory, is_poisoned, release_memory
from raysweep.train.history import NUM_PARTS
from raysweep.train.state import TrainState

SEEDS = 3
NUM_IMAGES = 2560
LEFT_BYTES = 128 * 2**20
"""Workspaces of libraries, which stay."""
POISON = """
import sys, torch
from raysweep.train.device import is_out_of_memory, is_poisoned, release_memory
values = torch.zeros(4, device="cuda")
try:
    values[torch.tensor([99], device="cuda")].sum().item()
except RuntimeError as error:
    seen = type(error).__name__, is_poisoned(error), is_out_of_memory(error)
    del error
    release_memory()
    print(*seen)
    sys.exit(0 if seen[1:] == (True, False) else 3)
sys.exit(4)
"""
UNSEEN = "from raysweep.train.device import choose_device; choose_device(1.0)"


def check_all(device: torch.device, size: Size, folder: Path) -> int:
    """Checks every case, on few images; returns how many are wrong."""
    quick = size == QUICK
    size = dataclasses.replace(size, num_images=min(size.num_images, NUM_IMAGES))
    folder = folder / "cases"
    cases: dict[str, Callable[[], str]] = {
        f"{name} {form}": partial(_check_study, name, settings, device, size, folder / f"{name} {form}")
        for name, heavy in HEAVY.items()
        for form, settings in (("baseline", ()), ("heavy", heavy))
        if form == "heavy" or not quick
    }
    cases |= {
        "parts of a batch": lambda: _check_parts(device, size, folder),
        "images on the host": lambda: _check_host(device, size, folder),
        "world of one, with an average": lambda: _check_world(device, size, folder),
        "a GPU that is not seen": _check_unseen,
    }
    if device.type == "cuda":
        cases |= {
            "a device assert": _check_poison,
            "out of memory": lambda: _check_memory(device),
            "memory given back": lambda: _check_release(device, size, folder),
        }
    wrong = 0
    for name, check in cases.items():
        try:
            print(f"  ok    {name}: {check()}", flush=True)
        except Exception as error:
            wrong += 1
            lines = traceback.format_exc().strip().splitlines()
            print(f"  WRONG {name}: {type(error).__name__}: {error}\n    " + "\n    ".join(lines[-5:]), flush=True)
    return wrong


def _check_study(name: str, settings: tuple[str, ...], device: torch.device, size: Size, folder: Path) -> str:
    """Trains an epoch, goes on from its checkpoint, and compares the first epoch's loss with a CPU's over seeds."""
    study = load(name, size, *settings, "training.epochs=2")
    data = draw_data(folder.parent / name, load(name, size), size)
    metric = next(metric.name for metric in study.task.metrics if metric.name.startswith("train/loss"))

    def train(where: torch.device, epochs: int, seed: int, at: TrialFolder | None = None) -> TrainState:
        config = load(name, size, *settings, f"training.epochs={epochs}").trial_config({}, seed)
        return loop.fit(
            config, data, study.objective, report=lambda _: None, folder=at, worker=Worker(device=where), resume=True
        )

    at = TrialFolder(folder)
    first = train(device, 1, 0, at).history
    second = train(device, 2, 0, at).history
    if [row["epoch"] for row in second] != [1, 2] or second[:1] != first or not are_finite(second):
        raise AssertionError(f"epochs must be finite, and go on from the first, got {second}")
    if device.type == "cpu" or name == "car_resnet":  # which takes minutes on CPUs
        return f"{metric} {second[0][metric]:.4f}, {second[1][metric]:.4f}"
    losses = [train(torch.device("cpu"), 1, seed).history[0][metric] for seed in range(SEEDS)]
    low, high = min(losses), max(losses)
    margin = max(high - low, 0.02 * abs(high))
    if not low - margin <= first[0][metric] <= high + margin:
        raise AssertionError(f"{metric} must be near a CPU's {low:.4f} to {high:.4f}, got {first[0][metric]:.4f}")
    return f"{metric} {first[0][metric]:.4f}, on a CPU {low:.4f} to {high:.4f}"


def check_graphs(name: str, device: torch.device, size: Size, folder: Path) -> str:
    """Trains two epochs eagerly and as CUDA graphs on the same draws, and compares the losses; prints them.

    Raises:
        AssertionError: the losses differ, or no graph could be recorded.
    """
    size = dataclasses.replace(size, num_images=min(size.num_images, NUM_IMAGES))
    data = draw_data(folder / "cases" / name, load(name, size), size)
    losses: dict[bool, list[float]] = {}
    notices: list[str] = []
    for graphs in (False, True):
        study = load(name, size, f"training.cuda_graphs={str(graphs).lower()}", "training.epochs=2")
        history = loop.fit(
            study.trial_config({}, 0),
            data,
            study.objective,
            report=lambda report: notices.append(report.notice or ""),
            worker=Worker(device=device),
        ).history
        losses[graphs] = [value for row in history for metric, value in row.items() if metric.startswith("train/loss")]
    text = "train/loss " + ", ".join(
        f"{a:.4f} eager and {b:.4f} as graphs" for a, b in zip(*losses.values(), strict=True)
    )
    if any(abs(a - b) > 0.02 * abs(a) for a, b in zip(*losses.values(), strict=True)):
        raise AssertionError(f"graphs must train as eager steps do, got {text}")
    if any(notices):
        raise AssertionError(f"steps must be recorded, got {'; '.join(filter(None, notices))}")
    print(f"  {name}: {text}", flush=True)
    return text


def _check_parts(device: torch.device, size: Size, folder: Path) -> str:
    study = load(
        "fashion_autoencoder",
        size,
        "training.epochs=1",
        "training.precision=fp32",
        "task.dropout=0",
        "task.batch_norm=false",
    )
    data = draw_data(folder / "fashion_autoencoder", study, size)
    histories = [
        loop.fit(
            study.trial_config({}, 0),
            data,
            study.objective,
            report=lambda _: None,
            worker=Worker(device=device),
            num_parts=num_parts,
        ).history[0]
        for num_parts in (1, 4)
    ]
    whole, parted = (history["train/loss"] for history in histories)
    if abs(whole - parted) > 1e-3 * abs(whole) or histories[1][NUM_PARTS] != 4:
        raise AssertionError(f"4 parts must train as the whole batch, got losses {whole} and {parted}")
    return f"train/loss {whole:.5f} whole, {parted:.5f} in 4 parts"


def _check_host(device: torch.device, size: Size, folder: Path) -> str:
    """Trains on images that are brought batch by batch, and on the same images on the device."""
    study = load("fashion_cnn", size, "training.epochs=1", "training.precision=fp32", "data.augmentation.strength=1")
    data = draw_data(folder / "fashion_cnn", load("fashion_cnn", size), size)
    here, there = (
        loop.fit(
            study.trial_config({}, 0),
            data,
            study.objective,
            report=lambda _: None,
            worker=Worker(device=device, num_sharing=num_sharing),
        ).history[0]["train/loss"]
        for num_sharing in (1, HOST_ONLY)
    )
    if abs(here - there) > 0.01 * abs(here):
        raise AssertionError(f"both must train alike, got losses {here} on the device and {there} from the host")
    return f"train/loss {here:.5f} on the device, {there:.5f} from the host"


def _check_world(device: torch.device, size: Size, folder: Path) -> str:
    """DDP over a process group of one, whose buffers and averages are shared as before each evaluation."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    study = load("fashion_cnn", size, "task.ema_decay=0.9", "task.batch_norm=true", "training.epochs=1")
    data = draw_data(folder / "fashion_cnn", load("fashion_cnn", size), size)
    with tempfile.NamedTemporaryFile() as store:
        torch.distributed.init_process_group(backend, f"file://{store.name}", rank=0, world_size=1)
        try:
            state = loop.fit(
                study.trial_config({}, 0),
                data,
                study.objective,
                report=lambda _: None,
                worker=Worker(device=device),
                prepare=lambda module: nn.parallel.DistributedDataParallel(module),
            )
            loop._share_buffers(state)
        finally:
            torch.distributed.destroy_process_group()
    return f"{backend}, {state.averages['model'].num_updates} updates of the average"


def _check_unseen() -> str:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", UNSEEN], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 1 or TrialError.__name__ not in done.stderr:
        raise AssertionError(f"it must fail, got exit code {done.returncode} and {done.stderr[-300:]}")
    return done.stderr.strip().splitlines()[-1]


def _check_poison() -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", POISON], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"it must be told apart, got {done.returncode}, {done.stdout} {done.stderr[-300:]}")
    return f"{done.stdout.strip()} (type, poisoned, out of memory)"


def _check_memory(device: torch.device) -> str:
    try:
        torch.empty(2**50, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error) or is_poisoned(error):
            raise AssertionError(f"it must be out of memory and not poisoned, got {error!r}") from error
        return type(error).__name__
    raise AssertionError("a petabyte must not be there")


def _check_release(device: torch.device, size: Size, folder: Path) -> str:
    """Trains, and looks what of the card is still reserved when nothing refers to the trial."""
    _check_parts(choose_device(1), size, folder)
    peak = torch.cuda.max_memory_reserved(device)
    release_memory()
    left = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    if left > LEFT_BYTES:
        raise AssertionError(
            f"at most {LEFT_BYTES / 2**20:.0f} MiB must be left, got {left / 2**20:.0f} of {peak / 2**20:.0f} MiB"
        )
    free, total = torch.cuda.mem_get_info(device)
    return (
        f"{left / 2**20:.0f} of {peak / 2**20:.0f} MiB left; context and others {(total - free - left) / 2**20:.0f} MiB"
    )
