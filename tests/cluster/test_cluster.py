"""A real cluster of 1, 2 and 4 nodes on this machine: the doctor, the driver's code, DDP over two nodes, a lost node.

Run as a script, this file is the cluster: it prints its address; each line on stdin, `add` or `lose`, is a node.
The nodes' own raysweep is an older one, as on a cluster that was set up before the last edit.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from raysweep.file_guard import read_json_lines

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "from raysweep.cli import main; main()"
pytestmark = pytest.mark.ray


def run_cluster() -> None:
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    print(cluster.address, flush=True)
    added = []
    for line in sys.stdin:
        if line == "add\n":
            added.append(cluster.add_node(**node))
        else:
            cluster.remove_node(added.pop(), allow_graceful=False)
        cluster.wait_for_nodes()
        print("done", flush=True)
    cluster.shutdown()


class NodesOfThisMachine:
    """The cluster's process, and commands with the token that it asks for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old = folder / "old"
        shutil.copytree(ROOT / "raysweep", self.old / "raysweep", ignore=shutil.ignore_patterns("__pycache__"))
        (self.old / "raysweep/__init__.py").write_text('__version__ = "0.0.1"\n')
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "t" * 32,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            env={**self.environment, "PYTHONPATH": str(self.old)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "cluster.log").open("w"),
            text=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin: IO[str] = self.process.stdin
        self.stdout: IO[str] = self.process.stdout
        self.address = self.stdout.readline().strip()
        assert self.address, (folder / "cluster.log").read_text()
        self.num_nodes = 1

    def grow(self, num_nodes: int) -> None:
        for _ in range(num_nodes - self.num_nodes):
            self._order("add")
        self.num_nodes = num_nodes

    def lose(self) -> None:
        self._order("lose")
        self.num_nodes -= 1

    def _order(self, line: str) -> None:
        print(line, file=self.stdin, flush=True)
        assert self.stdout.readline() == "done\n"

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """raysweep of this checkout, from a folder with the older one: Ray puts a driver's folder on workers' paths."""
        return subprocess.Popen(
            [sys.executable, "-P", "-c", COMMAND, *map(str, words), "--address", self.address],
            cwd=self.old,
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        stdout, stderr = process.communicate(timeout=960)
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesOfThisMachine]:
    nodes = NodesOfThisMachine(tmp_path_factory.mktemp("cluster"))
    yield nodes
    nodes.stdin.close()
    nodes.process.wait(timeout=240)


def test_one_node_with_a_leaked_placement_group(cluster: NodesOfThisMachine, tmp_path: Path) -> None:
    leak = (
        "import ray; ray.init(logging_level='ERROR'); "
        "ray.get(ray.util.placement_group([{'CPU': 1}], lifetime='detached', name='left').ready())"
    )
    environment = {**cluster.environment, "RAY_ADDRESS": cluster.address}
    subprocess.run([sys.executable, "-c", leak], cwd=tmp_path, env=environment, check=True, timeout=480)
    done = cluster.run("doctor", "--storage", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert len(wrong) == 1, done.stdout
    assert "WRONG placement groups" in wrong[0]
    assert "--remove-leaked" in wrong[0]
    assert not list(tmp_path.iterdir())


def test_two_nodes_run_the_driver_s_code(cluster: NodesOfThisMachine, tmp_path: Path) -> None:
    """The nodes have an older raysweep installed, and the driver's folder has one: neither is imported."""
    cluster.grow(2)
    done = cluster.run("doctor", "--remove-leaked", "--storage", tmp_path, "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "removed 1 placement groups" in done.stderr
    assert "2 nodes, 2 CPUs, 0 GPUs" in done.stdout
    assert "by token on every node" in done.stdout
    assert "written and read by 2 nodes" in done.stdout
    assert "1 run side by side" in done.stdout


def test_a_trial_of_two_workers_over_two_nodes(
    cluster: NodesOfThisMachine, tmp_path: Path, make_image_folder: Callable[..., Path]
) -> None:
    cluster.grow(2)
    words = "--trials 1 --max-epochs 1 --workers 2 --wandb disabled --name ddp"
    words += " --set task.model=resnet10t --set task.pretrained=false --set data.image_size=32"
    images = make_image_folder(tmp_path / "images", 3, 20)
    done = cluster.run("tune", "car_resnet", "--data", images, "--storage", tmp_path / "results", *words.split())
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "results/ddp/results.json").read_text())
    assert [trial["state"] for trial in record["trials"]] == ["COMPLETE"]
    assert record["test"]["num_images"] == record["data"]["num_test"]


def test_a_lost_node_s_trial_goes_on_elsewhere(
    cluster: NodesOfThisMachine, tmp_path: Path, make_image_folder: Callable[..., Path]
) -> None:
    """A node has one CPU, so each trial has one of the nodes; one of them then waits for the other to end."""
    cluster.grow(2)
    words = "--trials 2 --wandb disabled --name lost --set training.epochs=40"
    words += " --set task.model=resnet10t --set task.pretrained=false --set data.image_size=32"
    images = make_image_folder(tmp_path / "images", 3, 20)
    process = cluster.start("tune", "car_resnet", "--data", images, "--storage", tmp_path / "results", *words.split())
    trials = tmp_path / "results/lost/trials"
    limit = time.monotonic() + 480
    while len(list(trials.glob("*/metrics.jsonl"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    cluster.lose()
    _, stderr = process.communicate(timeout=960)
    assert process.returncode == 0, stderr
    assert "was lost; it goes on from its last checkpoint" in stderr
    record = json.loads((tmp_path / "results/lost/results.json").read_text())
    assert [(trial["state"], trial["retries"]) for trial in record["trials"]] == [("COMPLETE", 0)] * 2
    assert sum(trial["node_losses"] for trial in record["trials"]) == 1
    for path in trials.glob("*/metrics.jsonl"):
        assert [row["epoch"] for row in read_json_lines(path)] == list(range(1, 41))


def test_four_nodes(cluster: NodesOfThisMachine, tmp_path: Path) -> None:
    cluster.grow(4)
    done = cluster.run("doctor", "--storage", tmp_path, "--workers", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "written and read by 4 nodes" in done.stdout


if __name__ == "__main__":
    try:
        run_cluster()
    except BaseException:  # with threads of Ray's that would keep the process, and the test, waiting
        traceback.print_exc()
        os._exit(1)
