"""The script for a short visit to a GPU runs on a CPU with tiny sizes, and what it needs there is packed small."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "gpu"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


WITHOUT_RAY = """
import runpy, sys
sys.modules |= dict.fromkeys(("ray", "wandb", "sqlalchemy", "alembic", "cmaes", "kagglehub"))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it where there is no Ray, as on a machine to which little is brought."""
    command = [sys.executable, "-c", WITHOUT_RAY, str(FOLDER / "measure.py"), "--threads", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=2400)


def test_a_quick_visit_runs_through_on_a_cpu() -> None:
    """What is right, the speed and the calls of all studies; on a card CUDA's own cases come to it."""
    done = run("--device", "cpu", "--quick", "--only", "cases", "speed", "calls")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    assert "FAILED" not in done.stdout
    found = json.loads(done.stdout.splitlines()[-1])["found"]
    assert found["cases"] == 0
    for name in ("car_resnet", "fashion_cnn", "fashion_autoencoder", "mnist_dcgan", "mnist_gan"):
        speeds = found[f"speed of {name}"]
        assert speeds.keys() >= {"eager", "resident", "bare"}
        assert all(speed > 0 for speed in speeds.values())
        assert found[f"calls of {name}"]["operations"] > 10


def test_what_has_no_time_left_is_left_out_and_said() -> None:
    done = run("--device", "cpu", "--minutes", "0", "--only", "search")
    assert done.returncode == 0
    assert "- a search on Ray: left out, -0 s are left and it needs 100" in done.stdout


def test_a_part_that_crashes_shows_its_stack_and_ends_no_other() -> None:
    script = (
        "import os, runpy, signal, sys\n"
        "part = runpy.run_path(sys.argv[1])['Visit'](1, ['speed'])\n"
        "part.run('speed', 'a crash', 0, lambda: os.kill(os.getpid(), signal.SIGSEGV))\n"
        "part.run('speed', 'a failure', 0, lambda: 1 / 0)\n"
        "part.run('speed', 'the next', 0, lambda: 3)\n"
        "print(part.found, part.num_failed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(FOLDER / "measure.py")], capture_output=True, text=True, check=True
    )
    assert "FAILED: its process ended with exit code -11" in done.stdout
    assert "Segmentation fault" in done.stderr
    assert "_answer" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout.splitlines()[-1] == "{'the next': 3} 2"


def test_wheels_are_stripped_of_what_is_not_used_and_stay_wheels(tmp_path: Path) -> None:
    wheel = tmp_path / "ray-1-py3-none-any.whl"
    kept = {"ray/__init__.py": "", "ray-1.dist-info/METADATA": "Name: ray", "ray/client/main.js": "x"}
    dropped = {"ray/jars/ray_dist.jar": "j" * 9, "ray/client/main.js.map": "m" * 9}
    record = "".join(f"{name},,\n" for name in (*kept, *dropped))
    with zipfile.ZipFile(wheel, "w") as target:
        for name, text in {**kept, **dropped, "ray-1.dist-info/RECORD": record}.items():
            target.writestr(name, text)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import pack\n"
        "pack.strip(Path(sys.argv[2])); versions = pack.read_versions(pack.ROOT / 'requirements.lock')\n"
        "print(*[name for name in (*pack.LOOP, *pack.SEARCH) if name not in versions])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(FOLDER), str(wheel)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [], "each package that is packed has its version in requirements.lock"
    with zipfile.ZipFile(wheel) as stripped:
        assert set(stripped.namelist()) == {*kept, "ray-1.dist-info/RECORD"}
        assert stripped.read("ray-1.dist-info/RECORD").decode() == "".join(f"{name},,\n" for name in kept)
