"""Measures what a trial takes of its node: time and memory, as its own process sees them."""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from raysweep import atomic_files, config_fields

STATM = Path("/proc/self/statm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Says what a trial's process, of several the first, has taken so far."""

    epoch_ends_s: tuple[float, ...]
    """When each epoch had ended, its checkpoint written, in seconds since training was called."""
    memory_bytes: int
    """The most that the process had for itself; decoded images and libraries, mapped from disk, are left out."""
    gpu_memory_bytes: int = 0
    """The most that was reserved of the GPU."""
    gpu_total_bytes: int = 0
    """What the GPU has; 0: the trial runs on CPUs."""


class UsageRecorder:
    """Writes the usage of this process to a file after each epoch."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._path = path
        self._device = device
        self._began = time.perf_counter()
        self._ends: list[float] = []
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # else that of an earlier trial of this process

    def epoch_ended(self) -> None:
        """Takes the time, and writes what is known."""
        self._ends.append(time.perf_counter() - self._began)
        on_gpu = self._device.type == "cuda"
        usage = Usage(
            epoch_ends_s=tuple(self._ends),
            memory_bytes=peak_memory(),
            gpu_memory_bytes=torch.cuda.max_memory_reserved(self._device) if on_gpu else 0,
            gpu_total_bytes=torch.cuda.get_device_properties(self._device).total_memory if on_gpu else 0,
        )
        atomic_files.write_json(self._path, config_fields.to_json(usage), checksum=True)


def peak_memory() -> int:
    """Measures the peak memory of this process in bytes, less what it shares now (where the system tells: Linux)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    shared = int(STATM.read_text().split()[2]) * resource.getpagesize() if STATM.exists() else 0
    return peak - shared
