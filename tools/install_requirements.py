"""Installs requirements.lock beside the Python that runs this, with the build of PyTorch that the machine can use.

    .venv/bin/python tools/install_requirements.py [auto|cpu|cuda]

On Linux PyTorch comes in two builds: CUDA, which brings NVIDIA's libraries and is the plain version of most indexes,
and CPU, `+cpu`, which is a fraction of it. `auto` takes the CPU build where no NVIDIA driver is found and one of pip's
indexes serves it. Other systems have one build.
"""

import ctypes.util
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
BUILDS = ("auto", "cpu", "cuda")
DRIVER = Path("/proc/driver/nvidia/version")
OF_TORCH = re.compile(r"(torch|torchvision)==(?P<version>[^ ;]+)")
OF_CUDA = re.compile(r"(cuda-|nvidia-|triton\b)")
CHANGE = "to change it: make install TORCH=cpu, or TORCH=cuda"


def main(arguments: list[str]) -> int:
    """Chooses the build of PyTorch, says which and why, and installs; returns pip's exit code, or 2 for wrong usage."""
    build = " ".join(arguments) or "auto"
    if build not in BUILDS:
        print(f"TORCH must be one of {', '.join(BUILDS)}, got {build!r}", file=sys.stderr)
        return 2
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    of_cpu = [f"{match[0]}+cpu" for line in lines if (match := OF_TORCH.match(line))]
    driver = find_driver()
    if sys.platform != "linux" or build == "cuda":
        print("PyTorch: the build of requirements.lock", flush=True)
    elif build == "auto" and driver:
        print(f"PyTorch: the CUDA build, for the NVIDIA driver that {driver} is a sign of; {CHANGE}", flush=True)
    elif _pip("install", "--dry-run", "--no-deps", *of_cpu, is_quiet=True) == 0:
        print(f"PyTorch: the CPU build{'' if driver else ', as there is no NVIDIA driver'}; {CHANGE}", flush=True)
        rest = [line for line in lines if not OF_TORCH.match(line) and not OF_CUDA.match(line)]
        return _install(rest + of_cpu) or _remove_cuda()
    else:
        missing = (
            f"none of pip's indexes serves {' and '.join(of_cpu)}: name one that does, the CPU index of PyTorch's "
            "install page for one, as PIP_EXTRA_INDEX_URL in the environment"
        )
        if build == "cpu":
            print(f"TORCH=cpu cannot be had, {missing}; or leave TORCH out", file=sys.stderr)
            return 1
        print(f"PyTorch: the CUDA build, which runs on CPUs too and takes 5 GB more; {missing}", flush=True)
    # To pip 2.0+cpu is a version 2.0, and the newer one, where an index serves both.
    return _install([OF_TORCH.sub(r"\g<0>,!=\g<version>+cpu", line) for line in lines])


def find_driver() -> str | None:
    """Finds a sign of NVIDIA's driver: its file in /proc, its tool or its library."""
    return str(DRIVER) if DRIVER.exists() else shutil.which("nvidia-smi") or ctypes.util.find_library("cuda")


def _install(lines: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return _pip("install", "--requirement", str(path))


def _remove_cuda() -> int:
    """Removes what an earlier installation of the CUDA build brought along."""
    left = [found.name for found in distributions() if OF_CUDA.match(found.name)]
    return _pip("uninstall", "--yes", *left) if left else 0


def _pip(*arguments: str, is_quiet: bool = False) -> int:
    output = subprocess.DEVNULL if is_quiet else None
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stdout=output, stderr=output, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
