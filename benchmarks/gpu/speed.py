"""Images/s of each study beside a bare loop, and what a step asks of the device."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from gpu.peers import Loop
from gpu.trainer import HEAVY, Size, Trainer, draw_data, load, time_images, wait
from raysweep.data.images import PreparedData
from raysweep.train.precision import resolve_precision

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx", "cudaGraphLaunch")
AUGMENTED = "data.augmentation.strength=1"
EAGER = "training.cuda_graphs=false"
GRAPHS = "training.cuda_graphs=true"


def measure_study(name: str, device: torch.device, size: Size, folder: Path) -> dict[str, float]:
    """Measures images/s of a study's baseline in each way there is, in turn, and prints them and their ratios."""
    plain = load(name, size)
    data = draw_data(folder / name, plain, size)
    on_gpu = device.type == "cuda"
    ways: dict[str, tuple[tuple[str, ...], bool]] = {
        "eager": ((EAGER,), False),
        "resident": ((EAGER,), True),
        **({"graphs": ((GRAPHS,), True)} if on_gpu else {}),
    }
    if AUGMENTED in HEAVY[name]:
        ways |= {
            f"augmented {way}": ((AUGMENTED, *ways[way][0]), True) for way in ("resident", "graphs") if way in ways
        }
    runs: dict[str, Any] = {
        way: Trainer(load(name, size, *settings).trial_config({}, 0), data, device, resident=resident).run
        for way, (settings, resident) in ways.items()
    }
    runs |= {f"bare{suffix}": build_loop(name, device, size, data, graphs).run for suffix, graphs in _forms(on_gpu)}
    for run in runs.values():
        run(max(4, size.num_steps // 4))  # libraries choose their algorithms, graphs are recorded
    speeds: dict[str, list[float]] = {way: [] for way in runs}
    for repeat in range(size.repeats):
        for way in list(runs) if repeat % 2 == 0 else list(runs)[::-1]:
            speeds[way].append(time_images(lambda run=runs[way]: run(size.num_steps), device))
    medians = {way: statistics.median(values) for way, values in speeds.items()}
    print(f"  {name}: images/s: " + ", ".join(f"{way} {speed:,.0f}" for way, speed in medians.items()))
    ratios = [("resident", "bare"), ("graphs", "eager"), ("graphs", "bare graphs")]
    ratios += [(f"augmented {way}", way) for way in ("resident", "graphs")]
    print("  " + name + ": " + ", ".join(f"{a}/{b} {medians[a] / medians[b]:.2f}" for a, b in ratios if a in medians))
    return medians


def _forms(on_gpu: bool) -> list[tuple[str, bool]]:
    return [("", False), (" graphs", True)] if on_gpu else [("", False)]


def build_loop(name: str, device: torch.device, size: Size, data: PreparedData, graphs: bool) -> Loop:
    """Builds the bare loop of a study in the number format that the study takes."""
    config = load(name, size).trial_config({}, 0)
    pixels, labels = data.train.gather(np.arange(len(data.train))), data.train.labels
    return Loop(
        name,
        torch.from_numpy(pixels),
        torch.from_numpy(np.array(labels)),
        device,
        batch=config.training.batch_size,
        bf16=resolve_precision(config.training.precision, device) == "bf16",
        graphs=graphs,
        photo_model=size.photo_model,
    )


def count_calls(name: str, device: torch.device, size: Size, folder: Path) -> dict[str, float]:
    """Counts what a step waits for and launches; prints it. On a CPU: its operations."""
    config = load(name, size, EAGER, *HEAVY[name]).trial_config({}, 0)
    trainer = Trainer(config, draw_data(folder / name, load(name, size), size), device)
    trainer.run(4)
    wait(device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    num_steps = min(20, size.num_steps)
    with profile(activities=activities) as profiled:
        trainer.run(num_steps)
    events = {event.key: event.count for event in profiled.key_averages()}
    counts = {
        "waits": sum(count for key, count in events.items() if key in WAITS) / num_steps,
        "launches": sum(count for key, count in events.items() if key in LAUNCHES) / num_steps,
        "operations": sum(count for key, count in events.items() if key.startswith("aten::")) / num_steps,
    }
    print(f"  {name}, heavy, a step: " + ", ".join(f"{count:,.1f} {what}" for what, count in counts.items()))
    return counts
