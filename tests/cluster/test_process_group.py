"""What ends a command by its process group, as `timeout` does, leaves Ray's processes to the command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
import contextlib, os, subprocess, sys, time
import click
from raysweep.cli import run_command
from raysweep.cluster.local_ray import apart_from_group

@click.command()
def work():
    group = os.getpgrp()
    with apart_from_group() if sys.argv[1] == "apart" else contextlib.nullcontext():
        child = subprocess.Popen(["sleep", "60"])
    assert os.getpgrp() == group
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.3)
        print("alive" if child.poll() is None else "ended", flush=True)
        child.kill()

run_command(work, [], "work")
"""


@pytest.mark.parametrize(("where", "state"), [("apart", "alive"), ("within", "ended")])
def test_a_signal_to_the_group_of_a_command_ends_what_was_not_started_apart(where: str, state: str) -> None:
    wrapper = ["sh", "-c", '"$@"; true', "sh"]  # leads the group, as `timeout` does
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-c", COMMAND, where],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert stdout == f"{state}\n", stderr
