"""`make install` takes the build of PyTorch that fits: the real tool and pip, on small packages of those names.

All cases share one environment: the tool must get from any state to the right one.
"""

import os
import shutil
import subprocess
import venv
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tools.install_requirements import LOCK, OF_CUDA, OF_TORCH, find_driver

ROOT = Path(__file__).resolve().parents[1]
PLAIN = ["torch-2.0", "torchvision-1.0", "triton-3.0", "nvidia_cublas-1.0", "cuda_bindings-1.0", "numpy-2.0"]
OF_CPU = ["torch-2.0+cpu", "torchvision-1.0+cpu"]
CPU_STATE = {"torch": "2.0+cpu", "torchvision": "1.0+cpu", "numpy": "2.0"}
CUDA_STATE = {name.replace("_", "-"): version for name, _, version in (wheel.partition("-") for wheel in PLAIN)}
AUTO_STATE = CUDA_STATE if find_driver() else CPU_STATE
"""What `auto` installs on the machine of the tests where both builds are served."""


def write_wheel(folder: Path, wheel: str) -> None:
    """Writes an empty package NAME-VERSION as a wheel."""
    folder.mkdir(exist_ok=True)
    name, _, version = wheel.partition("-")
    with zipfile.ZipFile(folder / f"{wheel}-py3-none-any.whl", "w") as archive:
        info = f"{wheel}.dist-info"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tool, a lock file, an environment and wheels: `plain/` as PyPI has them, `cpu/` beside it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools/install_requirements.py", folder / "tools")
    lock = [f"{name}=={version} ; sys_platform != 'win32'" for name, version in CUDA_STATE.items()]
    (folder / "requirements.lock").write_text("\n".join(lock))
    for wheel in PLAIN:
        write_wheel(folder / "plain", wheel)
    for wheel in OF_CPU:
        write_wheel(folder / "cpu", wheel)
    write_wheel(folder / "half", OF_CPU[0])
    venv.create(folder / ".venv", with_pip=True)
    return folder


def install(
    project: Path, *arguments: str, served: str = "plain cpu", path: str = ""
) -> tuple[int, str, dict[str, str]]:
    """Runs the tool; returns its exit code, what it said, and the packages that are there then."""
    python = project / ".venv/bin/python"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": " ".join(str(project / folder) for folder in served.split()),
        "PATH": os.pathsep.join(filter(None, [path, os.environ["PATH"]])),
    }
    command = [str(python), str(project / "tools/install_requirements.py"), *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    (site_packages,) = (project / ".venv/lib").glob("python*/site-packages")
    packages = {found.name: found.version for found in distributions(path=[str(site_packages)])}
    return run.returncode, run.stdout + run.stderr, {name: packages[name] for name in packages if name in CUDA_STATE}


@pytest.mark.parametrize(
    ("arguments", "served", "state", "said"),
    [
        (["cuda"], "plain cpu", CUDA_STATE, "the build of requirements.lock"),
        ([], "plain half", CUDA_STATE, "the CUDA build"),
        ([], "plain cpu", AUTO_STATE, "make install TORCH=c"),
        (["cpu"], "plain cpu", CPU_STATE, "the CPU build"),
    ],
)
def test_the_build_is_the_one_asked_for(
    project: Path, arguments: list[str], served: str, state: dict[str, str], said: str
) -> None:
    returncode, output, packages = install(project, *arguments, served=served)
    assert returncode == 0, output
    assert said in output
    assert packages == state


def test_a_driver_makes_it_cuda(project: Path, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    returncode, output, packages = install(project, path=str(tmp_path))
    assert (returncode, packages) == (0, CUDA_STATE)
    assert "TORCH=cpu" in output


def test_a_cpu_build_that_nobody_serves_is_refused_and_nothing_changes(project: Path) -> None:
    *_, before = install(project, "cuda")
    returncode, output, packages = install(project, "cpu", served="plain")
    assert (returncode, packages) == (1, before)
    assert "serves torch==2.0+cpu and torchvision==1.0+cpu" in output
    assert "PIP_EXTRA_INDEX_URL" in output


@pytest.mark.parametrize("arguments", [["gpu"], ["cpu", "cuda"]])
def test_another_word_is_refused(project: Path, arguments: list[str]) -> None:
    returncode, output, _ = install(project, *arguments)
    assert returncode == 2
    assert f"got {' '.join(arguments)!r}" in output


def test_a_package_that_cannot_be_had_fails_the_installation(project: Path) -> None:
    *_, before = install(project, "cuda")
    lock = project / "requirements.lock"
    text = lock.read_text()
    lock.write_text(text + "\ntorchtext==1.0")
    returncode, output, packages = install(project, "cuda")
    lock.write_text(text)
    assert (returncode, packages) == (1, before)
    assert "torchtext==1.0" in output


def test_the_lock_file_has_what_the_tool_looks_for() -> None:
    lines = LOCK.read_text().splitlines()
    assert [line.split("==")[0] for line in lines if OF_TORCH.match(line)] == ["torch", "torchvision"]
    of_cuda = {line.split("==")[0] for line in lines if OF_CUDA.match(line)}
    assert {"nvidia-cublas", "nvidia-cudnn-cu13", "cuda-toolkit", "triton"} <= of_cuda
