"""What the benchmarks share: medians with bootstrap intervals, facts of the machine, one JSON line at the end."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

PACKAGES = ("raysweep", "torch", "torchvision", "ray", "optuna", "numpy", "pillow")
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with the 95 % percentile bootstrap interval of it."""

    median: float
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_median(values: Sequence[float]) -> Interval:
    """The median of `values` and its interval; the same for the same values. One value is its own interval."""
    array = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.quantile(np.median(array[draws], axis=1), [0.025, 0.975])
    return Interval(float(np.median(array)), float(low), float(high))


def alternate(parts: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, Any]:
    """Runs each part once and returns the results by name; odd repeats go backwards (ABBA)."""
    order = list(parts) if repeat % 2 == 0 else list(parts)[::-1]
    return {name: parts[name]() for name in order}


def describe_machine() -> dict[str, Any]:
    """CPU model, cores that this process may use, load and versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **versions},
    }


def warn_if_busy() -> None:
    """Warns where other work would blur the measurement."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > 0.3 * cores:
        print(f"WARNING: load average {load:.2f} on {cores} cores: other work will blur this measurement", flush=True)


def finish(name: str, *, ratios: Mapping[str, Interval], n: int, values: Mapping[str, Any] | None = None) -> None:
    """Prints the ratios, and as the last line everything as one line of JSON."""
    for key, ratio in ratios.items():
        print(f"{name}: {key} = {ratio} (n={n})")
    record = {
        "name": name,
        "ratios": {
            key: {"median": round(ratio.median, 4), "low": round(ratio.low, 4), "high": round(ratio.high, 4)}
            for key, ratio in ratios.items()
        },
        "n": n,
        "values": dict(values or {}),
        "machine": describe_machine(),
    }
    print(json.dumps(record), flush=True)


def give_up(message: str) -> NoReturn:
    """Ends the benchmark with exit code 2 and a message on stderr."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
