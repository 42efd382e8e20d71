"""`ray up` for real, on two hosts made of network namespaces: the doctor, and DDP over both on real Fashion-MNIST.

Each host has its own address, processes and home, so the checkout there is what `ray up` brought; the storage, the data
set and this environment's libraries are the same files on both. Minutes long: run with RAYSWEEP_TEST_HOSTS=1, as root.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HEAD, WORKER = "11", "12"
STUDY = "fashion_cnn --trials 1 --max-epochs 1 --wandb disabled --workers 2"


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

    def ray(self, *words: str | Path) -> None:
        log = (self.folder / "ray.log").open("a")
        command = [Path(sys.executable).with_name("ray"), *words]
        subprocess.run(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, timeout=600, check=True)

    def run(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project's folder of a host, in the shell that `ray attach` gives."""
        return self.script("run", host, f". ~/.raysweep_node; cd ~/raysweep; RAYSWEEP_DATA={self.data_root} {command}")

    def wait_for_nodes(self, number: int, timeout_s: float = 600) -> None:
        end = time.monotonic() + timeout_s
        while f" {number} local.cluster.node" not in (status := self.run(HEAD, "ray status").stdout):
            assert time.monotonic() < end, status
            time.sleep(3)


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


def test_an_edit_on_the_head_is_what_all_workers_run(hosts: Hosts):
    """Only the head's checkout is changed after `ray up`; the worker's host keeps the older one."""
    assert hosts.run(HEAD, "sh -c \"echo '# edited' >>raysweep/errors.py\"").returncode == 0
    assert hosts.run(WORKER, "grep -c edited raysweep/errors.py").stdout == "0\n"
    done = hosts.run(HEAD, "python -m platform.doctor --study fashion_cnn --workers 2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 nodes" in done.stdout
    assert "workers import what is here" in done.stdout
    assert f"{hosts.storage}/results: written and read by 2 nodes" in done.stdout


def test_the_doctor_finds_storage_that_is_not_shared(hosts: Hosts):
    done = hosts.run(HEAD, "python -m platform.doctor --storage ~/alone")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG storage" in done.stdout
    assert f"10.78.0.{WORKER} cannot write there" in done.stdout


def test_two_workers_on_two_hosts_train_as_two_on_one(hosts: Hosts):
    # All CPUs of a host for each worker: both fit nowhere but on two hosts.
    cpus = os.cpu_count()
    records = []
    for name, options in (("two", f"--address auto --cpus-per-worker {cpus}"), ("one", "--address local")):
        done = hosts.run(HEAD, f"python -m platform.tune {STUDY} --name {name} {options}")
        assert done.returncode == 0, done.stderr
        run = hosts.storage / "results" / name
        assert (run / "best/model.safetensors").is_file()
        records.append(json.loads((run / "results.json").read_text()))
    two, one = records
    assert two["test"]["num_images"] == one["test"]["num_images"] == 10_000
    assert abs(two["test"]["accuracy"] - one["test"]["accuracy"]) <= 0.002


def test_a_submitted_job_runs_on_the_cluster_too(hosts: Hosts):
    submit = "ray job submit --address http://127.0.0.1:8265 --working-dir . --"
    done = hosts.run(HEAD, f"{submit} python -m platform.doctor --storage {hosts.storage}/results")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "written and read by 2 nodes" in done.stdout
