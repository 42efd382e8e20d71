"""Ray itself is lost: a command whose local Ray it was begins again; one on a cluster ends with a sentence."""

import inspect
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from raysweep.cluster import lost_ray
from raysweep.cluster.leftovers import DRIVER_LOG
from raysweep.cluster.lost_ray import ESSENTIAL, RayWatch, run_on_ray
from raysweep.errors import RayLostError, UsageError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
import contextlib, os, signal, sys, threading, time
import click
import psutil
from raysweep.cli import run_command

def kill_as_it_starts(kind):
    while True:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # it has ended
                if child.name() == kind:
                    child.kill()
                    return
        time.sleep(0.02)

@click.command()
@click.argument("kind")
@click.option("--resume", is_flag=True)
def work(kind, resume):
    import ray
    from raysweep.cluster import lost_ray
    from raysweep.cluster.connection import connect

    if not resume and os.environ.get("KILLS") == "at the start":
        threading.Thread(target=kill_as_it_starts, args=[kind], daemon=True).start()
    connect("local")
    print("process", os.getpid(), "resume", resume, flush=True)
    if not resume or "always" in os.environ.get("KILLS", ""):
        lost_ray.get_local_node().all_processes[kind][0].process.kill()
        lost_ray.run_on_ray(lambda: time.sleep(60))

if __name__ == "__main__":
    run_command(work, sys.argv[1:], "work")
"""


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits that are short, no look from another thread, and no trace of what was watched."""
    for name, duration_s in {"SILENT_S": 2.0, "GRACE_S": 0.2, "PERIOD_S": 0.2, "PROBE_PERIOD_S": 3600.0}.items():
        monkeypatch.setattr(lost_ray, name, duration_s)
    monkeypatch.setattr(lost_ray._State, "watch", None)
    yield
    if lost_ray._State.watch is not None:
        lost_ray._State.watch.end()


def test_a_cluster_that_is_silent_is_lost_and_one_that_answers_again_is_not(watch: None, free_port: int) -> None:
    address = ("127.0.0.1", free_port)
    with socket.create_server(address):
        lost_ray.watch_cluster("head:1", {"the head": address})
        with pytest.raises(ZeroDivisionError):
            run_on_ray(lambda: 1 / 0)  # another error than a loss

    is_over = threading.Event()

    def come_back() -> None:
        time.sleep(0.1)
        with socket.create_server(address):
            is_over.wait(60)

    thread = threading.Thread(target=come_back)
    thread.start()
    lost_ray.watch_cluster("head:1", {"the head": address})
    with pytest.raises(ZeroDivisionError):
        run_on_ray(lambda: 1 / 0)  # a short gap
    is_over.set()
    thread.join()
    with pytest.raises(RayLostError, match=r"the head of the Ray cluster at head:1 has not .*--resume") as lost:
        run_on_ray(lambda: 1 / 0)
    assert (lost.value.exit_code, lost.value.is_local) == (1, False)
    with pytest.raises(RayLostError):
        run_on_ray(lambda: "is not even tried")


def test_our_own_errors_are_not_held_up(watch: None) -> None:
    lost_ray.watch_cluster("head:1", {"the head": ("127.0.0.1", 1)})

    def fail() -> None:
        raise UsageError("wrong")

    with pytest.raises(UsageError, match="wrong"):
        run_on_ray(fail)


@pytest.mark.ray
def test_ray_has_the_private_names_that_tell_of_its_processes(ray_local: None) -> None:
    """`ray._private.worker`: `_global_node` with `all_processes`, `dead_processes`, `is_head`; `print_to_stdstream`."""
    import ray

    node = lost_ray.get_local_node()
    assert node is not None
    assert lost_ray.find_dead_process() is None
    assert {*ESSENTIAL} <= {*node.all_processes}
    assert Path(node.get_session_dir_path()).name.startswith("session_")
    folder = node.get_session_dir_path()
    logs = ray.get(
        ray.remote(lambda: [file.path for file in psutil.Process().open_files() if file.mode != "r"]).remote()
    )
    assert any(path.startswith(folder) for path in logs), "by this, processes are known to be of a session"
    own = [Path(file.path).name for file in psutil.Process().open_files() if file.path.startswith(folder)]
    assert any(name.startswith(DRIVER_LOG) for name in own)
    assert isinstance(lost_ray._State.watch, RayWatch)
    assert [*inspect.signature(ray._private.worker.print_to_stdstream).parameters] == ["data", "ignore_prefix"]


def run_command(tmp_path: Path, kind: str, **env: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "work.py"
    script.write_text(COMMAND)
    return subprocess.run(
        [sys.executable, str(script), kind],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def list_own_lines(stderr: str) -> list[str]:
    """Lists the lines that are raysweep's, of which none is a traceback's: Ray may add its own as it dies."""
    assert str(ROOT / "raysweep") not in stderr, stderr
    return [line for line in stderr.splitlines() if line.startswith(("error: ", "interrupted", *ESSENTIAL))]


@pytest.mark.ray
@pytest.mark.parametrize("kind", ESSENTIAL)
def test_a_command_whose_local_ray_dies_begins_again_under_its_process_number(tmp_path: Path, kind: str) -> None:
    process = run_command(tmp_path, kind)
    lines = process.stdout.splitlines()
    assert process.returncode == 0, process.stderr
    assert list_own_lines(process.stderr) == [f"{kind} of the local Ray has died: it is started again (1 of 3)"]
    assert [line.split()[2:] for line in lines] == [["resume", "False"], ["resume", "True"]]
    assert len({line.split()[1] for line in lines}) == 1


@pytest.mark.ray
def test_a_ray_that_loses_a_process_as_it_starts_is_started_again(tmp_path: Path) -> None:
    process = run_command(tmp_path, "raylet", KILLS="at the start")
    assert process.returncode == 0, process.stderr
    assert list_own_lines(process.stderr) == ["raylet of the local Ray has died: it is started again (1 of 3)"]
    assert [line.split()[2:] for line in process.stdout.splitlines()] == [["resume", "True"]]


@pytest.mark.ray
def test_after_three_times_it_ends_with_one_sentence(tmp_path: Path) -> None:
    process = run_command(tmp_path, "raylet", RAYSWEEP_RESTARTS="3")
    assert process.returncode == 1
    assert list_own_lines(process.stderr) == [
        "error: raylet of the local Ray has died; start the same command again, a search with --resume"
    ]
