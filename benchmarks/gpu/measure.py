"""Checks and measures raysweep on a GPU, in under 9 minutes, and prints as it goes.

What is right comes first, then speed: each study's images/s eager, with its images on the card, with CUDA graphs and
with augmentation, each beside a bare loop; waits and launches of a step; processes side by side, with MPS and without;
and, where Ray is there and time is left, a whole search. Each part is a process of its own: one that fails, hangs or
crashes says so, with its stack, and ends no other.

    python benchmarks/gpu/measure.py                      # on a machine with a GPU
    python benchmarks/gpu/measure.py --device cpu --quick # that it runs at all, on any machine; figures mean nothing

A machine without network has no raysweep: `pack.py` collects what else is needed, and the working tree is enough of it.
"""

import argparse
import faulthandler
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]

import torch  # noqa: E402

from gpu import cases, side_by_side, speed  # noqa: E402
from gpu.trainer import FULL, HEAVY, QUICK, Size  # noqa: E402
from raysweep.train.precision import prepare_process  # noqa: E402

PARTS = ("cases", "graphs", "speed", "calls", "together", "search")
SEARCH_S = 100.0
"""What a search needs at least."""
FORK = multiprocessing.get_context("fork")
"""A part begins with what is imported here, and the card is its own: this process never asks for it."""


class Visit:
    """Runs parts as long as there is time, and keeps what they have found."""

    def __init__(self, minutes: float, chosen: list[str]) -> None:
        self.ends_at = time.monotonic() + 60 * minutes
        self.chosen = chosen
        self.found: dict[str, Any] = {}
        self.num_failed = 0

    @property
    def left_s(self) -> float:
        """Returns the seconds that are left."""
        return self.ends_at - time.monotonic()

    def run(self, part: str, name: str, needs_s: float, function: Callable[[], Any]) -> None:
        """Runs a part where it is chosen and there is time for it."""
        if part not in self.chosen:
            return
        if self.left_s < needs_s:
            print(f"- {name}: left out, {self.left_s:.0f} s are left and it needs {needs_s:.0f}", flush=True)
            return
        print(f"- {name} ({self.left_s:.0f} s left)", flush=True)
        try:
            self.found[name] = run_apart(function, max(self.left_s, needs_s, 60))
        except ChildProcessError as error:
            self.num_failed += 1
            print(f"  FAILED: {error}", flush=True)


def run_apart(function: Callable[[], Any], timeout_s: float) -> Any:
    """Runs a function in a process of its own and returns what it returns.

    Raises:
        ChildProcessError: it raised, crashed or took longer.
    """
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_answer, args=(theirs, function))
    process.start()
    theirs.close()
    try:
        if ours.poll(timeout_s):
            return ours.recv()
        process.kill()
        raise ChildProcessError(f"it took more than {timeout_s:.0f} s")
    except EOFError:
        process.join()
        raise ChildProcessError(f"its process ended with exit code {process.exitcode}") from None
    finally:
        process.join(5)
        process.kill()


def _answer(connection: Connection, function: Callable[[], Any]) -> None:
    faulthandler.enable()
    connection.send(function())


def search(device: torch.device, folder: Path, left_s: float) -> str:
    """Runs a search of the sample on a local Ray, eight trials on a card."""
    if importlib.util.find_spec("ray") is None:
        return _say("no Ray here")
    command = [sys.executable, "-m", "platform.tune", "fashion_cnn", "--data", "sample", "--trials", "16"]
    command += ["--max-epochs", "3", "--storage", str(folder), "--wandb", "disabled", "--address", "local"]
    command += ["--trials-per-gpu", "8"] if device.type == "cuda" else []
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=left_s, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    print("  " + "\n  ".join((done.stdout + done.stderr[-1500:]).splitlines()[-25:]))
    if done.returncode:
        raise RuntimeError(f"the search ended with exit code {done.returncode}")
    return _say(f"a whole search in {time.monotonic() - began:.0f} s")


def _say(text: str) -> str:
    print(f"  {text}", flush=True)
    return text


def describe(device: torch.device) -> dict[str, Any]:
    """Describes the machine."""
    found: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0], "cores": os.cpu_count()}
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device; --device cpu --quick shows that the script runs")
        properties = torch.cuda.get_device_properties(device)
        found |= {"card": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    print(", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    return found


def visit(args: argparse.Namespace, device: torch.device, size: Size, folder: Path) -> int:
    """Runs all chosen parts; returns the exit code."""

    def prepared(function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            prepare_process(args.threads)
            return function()

        return run

    about = Visit(args.minutes, args.only)
    machine = run_apart(lambda: describe(device), 60)
    quick = size == QUICK
    about.run("cases", "cases", 0, prepared(lambda: cases.check_all(device, size, folder)))
    for name in HEAVY if device.type == "cuda" else ():
        about.run("graphs", f"graphs of {name}", 0, prepared(partial(cases.check_graphs, name, device, size, folder)))
    for name in HEAVY:
        needs_s = 0 if quick else (40 if name == "car_resnet" else 15)
        measure = prepared(partial(speed.measure_study, name, device, size, folder))
        about.run("speed", f"speed of {name}", needs_s, measure)
    for name in HEAVY:
        count = prepared(partial(speed.count_calls, name, device, size, folder))
        about.run("calls", f"calls of {name}", 0 if quick else 15, count)
    about.run("together", "side by side", 0 if quick else 120, lambda: side_by_side.measure(device, size, folder))
    about.run("search", "a search on Ray", SEARCH_S, lambda: search(device, folder, about.left_s - 10))
    print(json.dumps({"name": "gpu", "machine": machine, "found": about.found}))
    return int(bool(about.num_failed or about.found.get("cases")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs")
    parser.add_argument("--minutes", type=float, default=8.8, help="parts that would take longer are left out")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="default: all")
    parser.add_argument("--process", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.process:
        side_by_side.run_process(Path(args.process[0]), int(args.process[1]), device, quick=args.quick)
        return
    with tempfile.TemporaryDirectory(prefix="raysweep-gpu-") as folder:
        sys.exit(visit(args, device, QUICK if args.quick else FULL, Path(folder)))


if __name__ == "__main__":
    main()
