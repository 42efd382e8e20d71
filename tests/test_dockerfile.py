"""The Dockerfile as far as it can be looked at without a daemon: what it copies, runs and is named.

Its commands are those of `make install`, which the tests' own environment comes from.
"""

import io
import re
import shutil
from pathlib import Path

import hatchling.build
import pytest
import yaml  # type: ignore[import-untyped]
from dockerfile_parse.parser import DockerfileParser

from tools import install_requirements

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = DockerfileParser(fileobj=io.BytesIO((ROOT / "Dockerfile").read_bytes()))
STEPS = [(step["instruction"], step["value"]) for step in DOCKERFILE.structure]
JOB = yaml.safe_load((ROOT / "clusters/kuberay.yaml").read_text())
PODS = [
    group["template"]["spec"]
    for group in (JOB["spec"]["rayClusterSpec"]["headGroupSpec"], *JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"])
]
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
TRAVELS = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
"""What .dockerignore leaves of the repository."""


def values(instruction: str) -> list[str]:
    return [value for name, value in STEPS if name == instruction]


def test_the_base_is_python_pinned_by_name() -> None:
    arguments = dict(value.split("=") for value in values("ARG") if "=" in value)
    (base,) = values("FROM")
    image = base.replace("${PYTHON_VERSION}", arguments["PYTHON_VERSION"])
    assert re.fullmatch(r"python:3\.11-slim-\w+", image)


def test_nothing_travels_to_the_build_but_what_is_named() -> None:
    assert [line for line in IGNORED if not line.startswith(("#", "!"))] == ["*", "**/__pycache__"]
    assert [name for name in TRAVELS if not (ROOT / name).exists()] == []
    assert not {"results", "tests", ".git", ".env"} & set(TRAVELS)
    for value in values("COPY"):
        *sources, _ = value.split()
        assert [source for source in sources if source != "." and source.split("/")[0] not in TRAVELS] == []


def test_what_travels_is_enough_to_install_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TRAVELS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    built = hatchling.build.build_wheel(str(tmp_path / "dist"))
    assert (tmp_path / "dist" / built).is_file()
    (command,) = [value for value in values("RUN") if "--editable" in value]
    assert "--editable ." in command
    assert (tmp_path / "platform/tune.py").is_file()


def test_the_build_of_pytorch_is_an_argument_that_the_tool_takes() -> None:
    (default,) = [value.partition("=")[2] for value in values("ARG") if value.startswith("TORCH=")]
    assert default in install_requirements.BUILDS
    assert "PIP_EXTRA_INDEX_URL" in values("ARG")
    (line,) = [value for value in values("RUN") if "install_requirements" in value]
    script, argument = line.split()[1:]
    assert (ROOT / script).is_file()
    assert argument == '"$TORCH"'


def test_kuberay_s_pods_have_the_account_the_folder_and_the_image_of_it() -> None:
    assert values("USER") == ["1000:1000"]
    names = re.findall(r"--tag (\S+/raysweep:\S+)", (ROOT / "Dockerfile").read_text())
    for pod in PODS:
        context = pod["securityContext"]
        assert [context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]] == [1000, 1000, True]
        (container,) = pod["containers"]
        assert [container["workingDir"]] == values("WORKDIR")
        assert names == [container["image"]]


def test_no_step_after_the_account_needs_root() -> None:
    order = [name for name, _ in STEPS]
    assert set(order[order.index("USER") + 1 :]) == {"CMD"}
