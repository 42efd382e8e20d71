"""CPU seconds and memory until a mistake is answered, and until a trial's process can train.

Claims: what can be refused without torch or Ray is refused in under 1 s of CPU time and 150 MB; a trial's process costs
little beyond torch and Ray themselves. Peers, in the same run: `import torch` for the commands, `import torch,
ray.train.torch` for a trial's process. Ratios are of CPU time, ours over the peer's; each process is a fresh one.

    .venv/bin/python benchmarks/start_up.py        # about 1 min
"""

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

from _report import Interval, alternate, bootstrap_median, finish, warn_if_busy

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "studies": ("-m", "platform.studies"),
    "an unknown study": ("-m", "platform.tune", "no_such"),
    "a misspelled key": ("-m", "platform.tune", "fashion_cnn", "--set", "task.learning_rat=1"),
    "an illegal value": ("-m", "platform.tune", "fashion_cnn", "--set", "task.learning_rate=-1"),
    "an unknown flag": ("-m", "platform.tune", "--no-such-flag"),
}
TASKS = ("classification", "autoencoder", "gan")
TORCH = "import torch"
BOTH = "import torch, ray.train.torch"


def measure(arguments: tuple[str, ...]) -> tuple[float, float]:
    """CPU seconds and the most memory in MB of a process of Python with these arguments."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Runs all processes in turn, and prints ratios and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of each; default 5")
    repeats = parser.parse_args().repeats
    warn_if_busy()
    processes = dict(COMMANDS)
    processes |= {
        f"trial, {task}": ("-c", f"import raysweep.train.trial, raysweep.tasks.{task}.task") for task in TASKS
    }
    processes |= {TORCH: ("-c", TORCH), BOTH: ("-c", BOTH)}
    parts = {name: partial(measure, arguments) for name, arguments in processes.items()}
    for part in parts.values():  # from disk into memory
        part()
    runs = [alternate(parts, repeat) for repeat in range(repeats)]
    ratios: dict[str, Interval] = {}
    for name in processes.keys() - {TORCH, BOTH}:
        peer = TORCH if name in COMMANDS else BOTH
        ratios[f"{name} / {peer}"] = bootstrap_median([run[name][0] / run[peer][0] for run in runs])
    values = {
        name: {
            "cpu_s": round(median(run[name][0] for run in runs), 3),
            "memory_mb": round(max(run[name][1] for run in runs)),
        }
        for name in processes
    }
    for name, value in values.items():
        print(f"{name}: {value['cpu_s']} s of CPU time, {value['memory_mb']} MB")
    finish("start_up", ratios=dict(sorted(ratios.items())), n=repeats, values=values)


if __name__ == "__main__":
    main()
