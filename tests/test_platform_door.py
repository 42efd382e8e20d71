"""From the repo root, `platform` is the standard library's module and the door `python -m platform.tune`.

Everything runs in a process started in the repo root, as users start it: there the folder hides the module.
"""

import json
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from raysweep.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
STDLIB = Path(sysconfig.get_path("stdlib"))
SCRIPTS = Path(sysconfig.get_path("scripts"))
VERBS = [*COMMANDS.built_in]


def run(*command: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def python(*arguments: str | Path, timeout_s: float = 120) -> str:
    """The stdout of this Python, which has to succeed."""
    process = run(sys.executable, *arguments, timeout_s=timeout_s)
    assert process.returncode == 0, process.stderr
    return process.stdout


# the door


def test_tune_help_names_its_options() -> None:
    assert "--trials" in python("-m", "platform.tune", "--help")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_shows_its_own_usage(verb: str) -> None:
    assert python("-m", f"platform.{verb}", "--help").startswith(f"Usage: python -m platform.{verb} ")


def test_the_door_and_the_installed_command_have_the_same_options() -> None:
    by_door = python("-m", "platform.tune", "--help").partition("\n")[2]
    by_command = run(SCRIPTS / "raysweep", "tune", "--help").stdout.partition("\n")[2]
    assert by_door == by_command


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_usage_exits_2_and_names_the_door(verb: str) -> None:
    process = run(sys.executable, "-m", f"platform.{verb}", "--no-such-option")
    assert process.returncode == 2
    assert f"python -m platform.{verb}" in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""


@pytest.mark.parametrize("verb", VERBS)
def test_missing_requirements_exit_2_with_one_line_on_what_to_do(verb: str) -> None:
    process = run(sys.executable, "-S", "-m", f"platform.{verb}", "--help")  # -S: no site-packages
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert "make install" in process.stderr
    assert f".venv/bin/python -m platform.{verb}" in process.stderr


# the standard library's module


def test_the_module_is_the_standard_one_with_a_path() -> None:
    probe = f"""
import importlib.util, json, platform
spec = importlib.util.spec_from_file_location("standard", {str(STDLIB / "platform.py")!r})
standard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(standard)
print(json.dumps({{
    "other_names": sorted(vars(platform).keys() ^ vars(standard).keys()),
    "paths": [list(platform.__path__), platform.__spec__.submodule_search_locations],
    "same_doc": platform.__doc__ == standard.__doc__,
    "files": [platform.__file__, platform.__spec__.origin, platform.system.__code__.co_filename],
}}))
"""
    found = json.loads(python("-c", probe))
    assert found["other_names"] == ["__path__"]
    assert found["paths"] == [[str(ROOT / "platform")]] * 2
    assert found["same_doc"]
    assert [Path(file).resolve() for file in found["files"]] == [(STDLIB / "platform.py").resolve()] * 3


def test_the_module_reloads_and_pickles() -> None:
    probe = """
import importlib, pickle, platform
before = set(vars(platform))
assert importlib.reload(platform) is platform
assert set(vars(platform)) == before, set(vars(platform)) ^ before
assert not platform.__file__.startswith(platform.__path__[0]), platform.__file__
assert pickle.loads(pickle.dumps(platform.system)) is platform.system
assert pickle.loads(pickle.dumps(platform.uname())) == platform.uname()
import platform.tune
"""
    python("-c", probe)


@pytest.mark.skipif(not (STDLIB / "test/test_platform.py").exists(), reason="this Python has no tests of its own")
def test_cpython_tests_of_platform_pass() -> None:
    python("-m", "unittest", "test.test_platform")


@pytest.mark.parametrize("arguments", [[], ["--terse"], ["nonaliased", "terse"], ["--help"]])
def test_running_the_module_prints_what_the_standard_one_prints(arguments: list[str]) -> None:
    # `--help` is an option since 3.14; its first line names the program, which is not the same by path.
    def body(output: str) -> str:
        return output.partition("\n")[2] if output.startswith("usage") else output

    assert body(python("-m", "platform", *arguments)) == body(python(STDLIB / "platform.py", *arguments))


def test_running_the_module_says_on_stderr_where_the_commands_are() -> None:
    process = run(sys.executable, "-m", "platform")
    assert process.returncode == 0
    assert process.stderr.count("\n") == 1
    assert all(verb in process.stderr for verb in VERBS)


def test_a_command_after_a_space_is_told_its_name() -> None:
    process = run(sys.executable, "-m", "platform", "tune", "car_resnet")
    assert process.returncode == 2
    assert "for this one: python -m platform.tune ..." in process.stderr
    assert process.stdout == ""


def test_torch_ray_and_wandb_import() -> None:
    probe = "import torch, ray, wandb, platform; print(platform.__path__[0], platform.system())"
    assert python("-c", probe).split() == [str(ROOT / "platform"), platform.system()]


# what else starts in the repo root


@pytest.mark.parametrize(
    "command",
    [[SCRIPTS / "pytest"], [sys.executable, "-m", "pytest"]],
    ids=["pytest", "python -m pytest"],
)
def test_pytest_collects(command: list[str | Path]) -> None:
    process = run(*command, "--collect-only", "-p", "no:cacheprovider", "tests/test_platform_door.py")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "test_platform_door.py::test_pytest_collects" in process.stdout


@pytest.mark.ray
def test_a_ray_worker_has_platform_and_raysweep() -> None:
    probe = """
import json, platform
import ray

@ray.remote
def probe(by_reference):
    import platform
    import raysweep
    return platform.system(), by_reference(), raysweep.__file__

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
print(json.dumps([*ray.get(probe.remote(platform.system)), platform.__path__[0]]))
"""
    last_line = python("-c", probe, timeout_s=300).splitlines()[-1]
    assert json.loads(last_line) == [
        platform.system(),
        platform.system(),
        str(ROOT / "raysweep/__init__.py"),
        str(ROOT / "platform"),
    ]
