"""The batch script for Slurm, among stand-ins for the commands that it uses: what it starts, hands on and ends with."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "clusters" / "slurm.sh"
SEARCH = """#!/usr/bin/env bash
echo "python $*" >>"$LOG"
trap 'exit 138' USR1
for _ in $(seq {steps}); do sleep 0.05; done
exit {code}
"""
RECORD = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >>"$LOG"\n'
STATUS = RECORD + 'if [[ $1 == status ]]; then echo " 1 node_a"; grep -q ^srun "$LOG" && echo " 1 node_b"; fi\n'


def start(folder: Path, *arguments: str, steps: int = 0, code: int = 0, nodes: int = 1) -> subprocess.Popen[bytes]:
    programs = {"python": SEARCH.format(steps=steps, code=code), "ray": STATUS, "srun": RECORD, "scontrol": RECORD}
    (folder / ".venv/bin").mkdir(parents=True)
    for name, text in programs.items():
        path = folder / ".venv/bin" / name
        path.write_text(text)
        path.chmod(0o755)
    variables = {"SUBMIT_DIR": str(folder), "JOB_ID": "4711", "JOB_NUM_NODES": str(nodes), "CPUS_PER_TASK": "8"}
    environment = {
        **os.environ,
        "LOG": str(folder / "log"),
        **{f"SLURM_{key}": value for key, value in variables.items()},
    }
    with (folder / "stderr").open("w") as stderr:
        return subprocess.Popen([SCRIPT, *arguments], env=environment, stderr=stderr)


def read_log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def catches(pid: int, number: signal.Signals) -> bool:
    """Tells whether a process has a handler for a signal."""
    (mask,) = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("code", [0, 1])
def test_one_node_needs_no_cluster_and_the_exit_code_is_the_search_s(tmp_path: Path, code: int) -> None:
    assert start(tmp_path, "fashion_cnn", "--trials", "3", code=code).wait(30) == code
    assert read_log(tmp_path) == ["python -m platform.tune fashion_cnn --trials 3 --resume --address local"]


def test_the_signal_before_the_end_reaches_the_search_and_the_job_is_queued_again(tmp_path: Path) -> None:
    process = start(tmp_path, "fashion_cnn", steps=600)
    while not read_log(tmp_path):
        time.sleep(0.02)
    script = psutil.Process(process.pid)
    (search,) = script.children()
    while not (catches(script.pid, signal.SIGUSR1) and catches(search.pid, signal.SIGUSR1)):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 138
    assert read_log(tmp_path)[1:] == ["scontrol requeue 4711"]


def test_several_nodes_are_a_cluster_of_the_job_s_own_before_the_search_begins(tmp_path: Path) -> None:
    assert start(tmp_path, "fashion_cnn", nodes=2).wait(30) == 0
    log = read_log(tmp_path)
    (search,) = (line for line in log if line.startswith("python"))
    address = search.rpartition(" ")[2]
    assert address.endswith(f":{20000 + 4711}")
    assert search == f"python -m platform.tune fashion_cnn --resume --address {address}"
    assert log[0].startswith("ray start --head")
    assert log.index(f"ray status --address={address}") < log.index(search)
    assert any(
        line.startswith("srun --relative=1 --nodes=1") and f"--address={address} --block" in line for line in log
    )


def test_a_study_has_to_be_named(tmp_path: Path) -> None:
    assert start(tmp_path).wait(30) == 2
    assert "give the study" in (tmp_path / "stderr").read_text()
