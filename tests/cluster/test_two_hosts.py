"""`ray up` for real, on two hosts made of network namespaces: the doctor, and DDP over both on real Fashion-MNIST.

Each host has its own address, processes and home, so the checkout there is what `ray up` brought; the storage, the data
set and this environment's libraries are the same files on both. Minutes long: run with RAYSWEEP_TEST_HOSTS=1, as root.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from raysweep.file_guard import read_json_lines

ROOT = Path(__file__).resolve().parents[2]
HEAD, WORKER = "11", "12"
STUDY = "fashion_cnn --trials 1 --max-epochs 1 --wandb disabled --workers 2"
CARS = (
    "car_resnet --data sample --wandb disabled --set training.epochs=4 --set task.model=resnet10t "
    "--set task.pretrained=false --set data.image_size=32"
)
NETWORK = """
from torch import nn


class Small(nn.Sequential):
    def __init__(self, num_classes, in_channels):
        layers = nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        super().__init__(*layers, nn.Linear(128, num_classes))
"""


def can_make_hosts() -> bool:
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("ip", "unshare", "sshd", "rsync", "ssh")):
        return False
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return probe.returncode == 0


pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not os.environ.get("RAYSWEEP_TEST_HOSTS"), reason="minutes: RAYSWEEP_TEST_HOSTS=1 runs it"),
    pytest.mark.skipif(not can_make_hosts(), reason="needs root, network namespaces, sshd and rsync"),
]


class Hosts:
    """The hosts, and a cluster on them by clusters/on_premises.yaml with this machine's values in its four places."""

    def __init__(self, folder: Path, data_root: Path) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self.data_root = data_root
        self.config = folder / "cluster.yaml"
        self.environment = {**os.environ, "HOSTS_STATE": str(folder), "HOME": str(folder / "launcher")}
        self.environment["RAY_TMPDIR"] = str(folder / "ray")
        for name in ("storage", "launcher/.ray", "ray"):
            (folder / name).mkdir(parents=True)
        (folder / "launcher/.ray/auth_token").write_text(os.urandom(32).hex())

    def write_config(self) -> None:
        text = (ROOT / "clusters/on_premises.yaml").read_text()
        config: dict[str, Any] = yaml.safe_load(text)
        config["provider"] |= {"head_ip": f"10.78.0.{HEAD}", "worker_ips": [f"10.78.0.{WORKER}"]}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.folder / "key")}
        (set_up,) = config["setup_commands"]
        # The hosts reach no package index: this environment stands in for the one that the set-up would install.
        digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()[:16]
        config["setup_commands"] = [
            f"mkdir -p ~/raysweep/.venv && ln -sfn {sys.prefix}/* ~/raysweep/.venv/ && "
            f"touch ~/raysweep/.venv/.installed-{digest}",
            f"{set_up.rpartition(' ')[0]} {self.storage}",
        ]
        self.config.write_text(yaml.safe_dump(config))

    def script(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "tests/cluster/hosts.sh", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def start(self, host: str, command: str, log: Path) -> tuple[subprocess.Popen[str], Path]:
        """As `run`, without waiting for the end; stderr goes to `log`."""
        words = [str(ROOT / "tests/cluster/hosts.sh"), "run", host, self.in_project(command)]
        with log.open("w") as stderr:
            process = subprocess.Popen(words, env=self.environment, stdout=subprocess.DEVNULL, stderr=stderr, text=True)
        return process, log

    def ray(self, *words: str | Path) -> None:
        command = [Path(sys.executable).with_name("ray"), *words]
        with (self.folder / "ray.log").open("a") as log:
            subprocess.run(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, timeout=600, check=True)

    def run(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project's folder of a host, in the shell that `ray attach` gives."""
        return self.script("run", host, self.in_project(command))

    def count_workers(self, host: str) -> int:
        """DDP workers that run on a host."""
        return int(self.script("run", host, "pgrep --count --full ^ray::RayTrainWorker").stdout)

    def in_project(self, command: str) -> str:
        return f". ~/.raysweep_node; cd ~/raysweep; RAYSWEEP_DATA={self.data_root} {command}"

    def wait_for_nodes(self, number: int, timeout_s: float = 600) -> None:
        end = time.monotonic() + timeout_s
        while f" {number} local.cluster.node" not in (status := self.run(HEAD, "ray status").stdout):
            assert time.monotonic() < end, status
            time.sleep(3)


def wait_for(condition: Callable[[], bool], study: subprocess.Popen[str], timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert study.poll() is None, "the study has ended"
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path_factory.mktemp("hosts"), data_root)
    up = made.script("up", "2")
    assert up.returncode == 0, up.stderr
    try:
        made.write_config()
        made.ray("up", "-y", "--no-config-cache", made.config)
        made.wait_for_nodes(2)
        yield made
        made.ray("down", "-y", made.config)
    finally:
        made.script("down")


def test_an_edit_on_the_head_is_what_all_workers_run(hosts: Hosts) -> None:
    """Only the head's checkout is changed after `ray up`; the worker's host keeps the older one."""
    assert hosts.run(HEAD, "sh -c \"echo '# edited' >>raysweep/errors.py\"").returncode == 0
    assert hosts.run(WORKER, "grep -c edited raysweep/errors.py").stdout == "0\n"
    done = hosts.run(HEAD, "python -m platform.doctor --study fashion_cnn --workers 2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 nodes" in done.stdout
    assert "workers import what is here" in done.stdout
    assert f"{hosts.storage}/results: written and read by 2 nodes" in done.stdout


def test_the_doctor_finds_storage_that_is_not_shared(hosts: Hosts) -> None:
    done = hosts.run(HEAD, "python -m platform.doctor --storage ~/alone")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG storage" in done.stdout
    assert f"10.78.0.{WORKER} cannot write there" in done.stdout


def test_two_workers_on_two_hosts_train_as_two_on_one(hosts: Hosts) -> None:
    """With as many threads a worker the sums are the same, and so is the model."""

    def has_workers(workers: list[int]) -> bool:
        return [hosts.count_workers(host) for host in (HEAD, WORKER)] == workers

    records = []
    for name, address, workers in (("two", "auto", [1, 1]), ("one", "local", [2, 0])):
        command = f"python -m platform.tune {STUDY} --name {name} --address {address} --cpus-per-worker 1"
        study, log = hosts.start(HEAD, command, hosts.folder / f"{name}.log")
        try:
            wait_for(partial(has_workers, workers), study)
            assert study.wait(timeout=900) == 0, log.read_text()
        finally:
            study.kill()
        run = hosts.storage / "results" / name
        assert (run / "best/model.safetensors").is_file()
        records.append(json.loads((run / "results.json").read_text()))
    two, one = records
    assert two["test"]["num_images"] == one["test"]["num_images"] == 10_000
    assert abs(two["test"]["accuracy"] - one["test"]["accuracy"]) <= 0.002


def test_a_host_that_is_cut_off_is_waited_for_and_used_again(hosts: Hosts) -> None:
    """A trial takes both hosts: without one of them the study waits, and goes on when it is back."""
    command = f"python -m platform.tune {CARS} --trials 2 --workers 2 --cpus-per-worker {os.cpu_count()} --name cut"
    study, log = hosts.start(HEAD, command, hosts.folder / "cut.log")
    try:
        run = hosts.storage / "results/cut"
        wait_for(lambda: (run / "trials/0000/metrics.jsonl").is_file(), study)
        hosts.script("cut", WORKER)
        wait_for(lambda: "waiting for nodes" in log.read_text(), study)
        hosts.script("join", WORKER)
        assert study.wait(timeout=900) == 0, log.read_text()
    finally:
        study.kill()
    told = log.read_text()
    assert f"trial 0: node 10.78.0.{WORKER} was lost; it goes on from its last checkpoint" in told
    assert "the cluster has room for a trial again" in told
    record = json.loads((run / "results.json").read_text())
    assert [(trial["state"], trial["retries"]) for trial in record["trials"]] == [("COMPLETE", 0)] * 2
    assert [trial["node_losses"] for trial in record["trials"]] == [1, 0]
    assert [row["epoch"] for row in read_json_lines(run / "trials/0000/metrics.jsonl")] == list(range(1, 5))


def test_a_submitted_job_runs_on_the_cluster_too(hosts: Hosts) -> None:
    """What lies in ./results stays there: Ray takes no more than 100 MB with a job."""
    (hosts.storage / "results").mkdir(exist_ok=True)
    (hosts.storage / "results/large").write_bytes(os.urandom(120_000_000))
    submit = "ray job submit --address http://127.0.0.1:8265 --working-dir . --"
    done = hosts.run(HEAD, f"{submit} python -m platform.doctor --storage {hosts.storage}/results")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "written and read by 2 nodes" in done.stdout


def test_a_search_is_watched_and_steered_from_the_other_host(hosts: Hosts) -> None:
    """The worker's host has no part in the command: it sees the storage."""
    run = hosts.storage / "results/watched"
    command = f"python -m platform.tune {CARS} --trials 2 --name watched"
    study, log = hosts.start(HEAD, command, hosts.folder / "watched.log")
    try:
        wait_for(lambda: (run / "trials/0000/metrics.jsonl").is_file(), study)
        seen = hosts.run(WORKER, f"python -m platform.status {run}")
        assert seen.returncode == 0, seen.stderr
        assert "0 of 2 trials" in seen.stdout
        assert "trial 0: epoch" in seen.stdout
        told = hosts.run(WORKER, f"python -m platform.control {run} trials 3")
        assert told.returncode == 0, told.stderr
        made = hosts.run(WORKER, f"python -m platform.report {run}")
        assert made.returncode == 0, made.stderr
        assert (run / "report.html").is_file()
        assert study.wait(timeout=900) == 0, log.read_text()
    finally:
        study.kill()
    assert len(json.loads((run / "results.json").read_text())["trials"]) == 3
    shown = hosts.run(WORKER, f"python -m platform.show {run}")
    assert " 3/3 " in shown.stdout, shown.stdout + shown.stderr


def test_a_network_of_one_s_own_travels_to_both_hosts(hosts: Hosts) -> None:
    """Its file lies on the head alone; the trial takes a worker on each host; the other one uses the model."""
    written = f"mkdir ~/own && printf %s {shlex.quote(NETWORK)} >~/own/nets.py"
    assert hosts.run(HEAD, f"sh -c {shlex.quote(written)}").returncode == 0
    assert hosts.run(WORKER, "test -e ~/own").returncode == 1
    run = hosts.storage / "results/own"
    words = (
        f"--trials 1 --name own --workers 2 --cpus-per-worker {os.cpu_count()} --set task.model=$HOME/own/nets.py:Small"
    )
    done = hosts.run(HEAD, f"python -m platform.tune {CARS} {words} --set task.dropout=0 --set task.head=linear")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [file.read_text() for file in (run / "best/code").iterdir()] == [NETWORK]
    image = shlex.quote(str(next((hosts.storage / "results/.cache").rglob("*.jpg"))))
    refused = hosts.run(WORKER, f"python -m platform.predict {run} {image}")
    assert refused.returncode != 0
    assert "--trust-code" in refused.stderr
    answered = hosts.run(WORKER, f"python -m platform.predict {run} {image} --trust-code")
    assert answered.returncode == 0, answered.stdout + answered.stderr
