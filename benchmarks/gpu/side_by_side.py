"""Trials side by side on one device: so many processes that train the Fashion CNN, with and without NVIDIA MPS."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from gpu.speed import EAGER
from gpu.trainer import FULL, QUICK, Size, Trainer, draw_data, load
from raysweep.cluster.mps import CONTROL
from raysweep.train.precision import prepare_process

SCRIPT = Path(__file__).with_name("measure.py")
STUDY = "fashion_cnn"


def measure(device: torch.device, size: Size, folder: Path) -> dict[str, float]:
    """Measures images/s of all processes together, and prints them; an unmeasurable count is left out."""
    draw_data(folder / STUDY, load(STUDY, size), size)
    found: dict[str, float] = {}
    forms: dict[str, contextlib.AbstractContextManager[Mapping[str, str]]] = {"in turns": contextlib.nullcontext({})}
    if device.type == "cuda" and shutil.which(CONTROL):
        forms["MPS"] = mps(folder / "mps")
    elif device.type == "cuda":
        print(f"  no {CONTROL} here: without MPS only")
    for form, context in forms.items():
        with context as environment:
            for count in size.counts:
                found[f"{count} {form}"] = _measure_together(count, device, size, folder, environment)
                one = found[f"{size.counts[0]} in turns"]
                speed = found[f"{count} {form}"]
                print(f"  {count:>2} processes, {form}: {speed:,.0f} images/s, {speed / one:.2f} x one", flush=True)
    return found


def _measure_together(
    count: int, device: torch.device, size: Size, folder: Path, environment: Mapping[str, str]
) -> float:
    """Starts processes, lets them begin at once, and adds up what they have trained."""
    command = [sys.executable, str(SCRIPT), "--device", device.type, "--process", str(folder), str(count)]
    command += ["--quick"] if size == QUICK else []
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"one of {count} processes ended before it could train")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return sum(float(process.communicate(timeout=120)[0]) for process in processes)
    finally:
        for process in processes:
            process.kill()


def run_process(folder: Path, count: int, device: torch.device, *, quick: bool) -> None:
    """Trains as one of several processes: says when it is ready, waits for a word, prints its images/s."""
    size = QUICK if quick else FULL
    prepare_process(1)
    study = load(STUDY, size, EAGER)
    trainer = Trainer(study.trial_config({}, 0), draw_data(folder / STUDY, study, size), device, sharing=count)
    trainer.measure(4)
    print("ready", flush=True)
    sys.stdin.readline()
    began, num_images = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < size.seconds:
        num_images += trainer.run(5)
        trainer.runner.read_means()  # waits
    print(num_images / passed, flush=True)


@contextlib.contextmanager
def mps(folder: Path) -> Iterator[dict[str, str]]:
    """Starts a control daemon of MPS of our own, and stops it: no setting of the card changes."""
    folder.mkdir()
    places = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    environment = {**os.environ, **places}
    subprocess.run([CONTROL, "-d"], env=environment, check=True, timeout=30)
    try:
        yield places
    finally:
        subprocess.run([CONTROL], input="quit\n", text=True, env=environment, check=False, timeout=30)
