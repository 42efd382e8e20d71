"""The wheel has every module and resource, right metadata, nothing else, works elsewhere, and is the sdist's too."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import hatchling.build
import pytest
from packaging.requirements import Requirement

import raysweep
from raysweep.catalogue import list_studies

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STRAY = [".env", "kaggle.json", "key.pem", "raysweep/__pycache__/cli.pyc", "results/mine/results.json", "data/car.jpg"]
"""Files that a working copy may have and that go nowhere."""


def build(hook: str, folder: Path, into: Path) -> Path:
    """Builds the project in the folder by one of hatchling's hooks, which work in the current one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return into / str(getattr(hatchling.build, hook)(str(into)))
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with stray files beside its own."""
    folder = tmp_path_factory.mktemp("copy") / "raysweep"
    caches = shutil.ignore_patterns(
        ".git", ".venv", "results", ".*_cache", ".cache", "__pycache__", ".hypothesis", "dist"
    )
    shutil.copytree(ROOT, folder, ignore=caches)
    for name in STRAY:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    return folder


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of the copy, open."""
    with zipfile.ZipFile(build("build_wheel", copy, tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """Its metadata."""
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def list_files(wheel: zipfile.ZipFile) -> dict[str, int]:
    """The files that are installed, with their CRCs."""
    return {item.filename: item.CRC for item in wheel.infolist() if ".dist-info/" not in item.filename}


def test_it_has_every_module_and_resource_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    files = {
        str(path.relative_to(ROOT))
        for package in ("raysweep", "search_spaces")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(list_files(wheel)) == files
    assert {"raysweep/py.typed", "raysweep/tasks/gan/judge/mnist.safetensors", "search_spaces/fashion_cnn.py"} <= files


def test_its_metadata_is_the_project_s(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("raysweep", raysweep.__version__)
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == PROJECT["license"]
    assert str(metadata.get_payload()).startswith("# raysweep\n")
    extras = [
        f"{line}; extra == '{extra}'" for extra, lines in PROJECT["optional-dependencies"].items() for line in lines
    ]
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert set(required) == {Requirement(line) for line in PROJECT["dependencies"] + extras}


def test_its_command_is_there(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    assert wheel.read(name).decode().split() == ["[console_scripts]", "raysweep", "=", "raysweep.cli:main"]


def test_the_sdist_has_no_stray_file_and_makes_the_same_wheel(
    copy: Path, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    with tarfile.open(build("build_sdist", copy, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    assert not names & set(STRAY)
    assert {
        "Makefile",
        "Dockerfile",
        "requirements.lock",
        "platform/tune.py",
        "tests/test_wheel.py",
        ".ci/run",
    } <= names
    (unpacked,) = tmp_path.glob("raysweep-*/")
    with zipfile.ZipFile(build("build_wheel", unpacked, tmp_path)) as again:
        assert list_files(again) == list_files(wheel)


def test_it_works_in_a_folder_of_its_own(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    (tmp_path / "work").mkdir()
    code = "import raysweep; print(raysweep.__file__, flush=True); from raysweep.cli import main; main(['studies'])"
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "work",
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "installed"), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    place, *lines = process.stdout.splitlines()
    assert Path(place).is_relative_to(tmp_path / "installed")
    assert {line.split()[0] for line in lines if line and not line.startswith(" ")} == set(list_studies())
