"""Lists the faults: what each does to a search that runs, and how the search has to end. A new one is an entry."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from raysweep.chaos import processes
from raysweep.chaos.victim import Victim

SIGKILLED = -int(signal.SIGKILL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One way to disturb a search."""

    name: str
    strike: Callable[[Victim], str]
    """Does it to a search that has just been started; returns what was done, and when."""
    exit_codes: tuple[int, ...]
    """How the session that is struck may end; where that is not 0, the search is resumed and has to end with 0."""
    num_workers: int = 1
    """Workers of a trial; above 1: DDP."""
    needs: str = "job"
    """What it takes: `job`, the search's own processes and files; `ray`, a Ray that the search has started; `nodes`,
    several nodes; `disk`, a disk of the search's own."""


def kill_driver(victim: Victim) -> str:
    """Kills the driver, and with it the Ray that it has started."""
    when = victim.wait_for_epoch()
    victim.send(signal.SIGKILL)
    return f"kill -9 of the driver at {when}"


def terminate_driver(victim: Victim) -> str:
    """Sends SIGTERM to the driver, as Kubernetes, Slurm and systemd do."""
    when = victim.wait_for_epoch()
    victim.send(signal.SIGTERM)
    return f"SIGTERM to the driver at {when}"


def interrupt_driver(victim: Victim) -> str:
    """Sends SIGINT to the driver, as Ctrl-C does."""
    when = victim.wait_for_epoch()
    victim.send(signal.SIGINT)
    return f"SIGINT to the driver at {when}"


def kill_trial(victim: Victim) -> str:
    """Kills the process of a trial."""
    when = victim.wait_for_epoch()
    return f"kill -9 of {victim.kill_actor(processes.TRIAL)}, a trial's, at {when}"


def kill_worker(victim: Victim) -> str:
    """Kills one of the workers of a DDP trial."""
    when = victim.wait_for_epoch()
    return f"kill -9 of {victim.kill_actor(processes.WORKER)}, a DDP worker's, at {when}"


def kill_raylet(victim: Victim) -> str:
    """Kills the raylet, Ray's daemon on a node."""
    when = victim.wait_for_epoch()
    return f"kill -9 of the raylet, {victim.kill_daemon('raylet')}, at {when}"


def kill_gcs(victim: Victim) -> str:
    """Kills the GCS, Ray's daemon on the head."""
    when = victim.wait_for_epoch()
    return f"kill -9 of the GCS, {victim.kill_daemon('gcs_server')}, at {when}"


def tear_journal(victim: Victim) -> str:
    """Kills the driver and cuts the journal's last line in two."""
    killed = kill_driver(victim)
    path = victim.folder.journal
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    size = (last + len(whole)) // 2
    os.truncate(path, size)
    return f"{killed}; {len(whole) - size} bytes cut off {path.name}"


def tear_history(victim: Victim) -> str:
    """Kills the driver and cuts the last line of a trial's metrics in two."""
    killed = kill_driver(victim)
    trial = victim.list_under_way()[0]
    size = trial.metrics.stat().st_size
    os.truncate(trial.metrics, size - 20)
    return f"{killed}; 20 bytes cut off {trial.metrics.name} of trial {trial.path.name}"


def flip_bit(victim: Victim) -> str:
    """Kills the driver and flips a bit in the middle of a trial's last checkpoint."""
    killed = kill_driver(victim)
    trial = victim.list_under_way()[0]
    place = trial.checkpoint.stat().st_size // 2
    with trial.checkpoint.open("rb+") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    return f"{killed}; bit 0 of byte {place} flipped in {trial.checkpoint.name} of trial {trial.path.name}"


def fill_disk(victim: Victim) -> str:
    """Fills the storage's disk until the search has ended, then frees it."""
    disk = victim.setting.disk
    assert disk is not None
    when = victim.wait_for_epoch()
    size = disk.fill()
    try:
        victim.wait()
    finally:
        disk.free()
    return f"disk filled up with {size / 1e6:.0f} MB at {when}, freed when the search had ended"


def lose_node(victim: Victim) -> str:
    """Kills a node of the cluster."""
    when = victim.wait_for_epoch()
    assert victim.setting.nodes is not None
    return f"{victim.setting.nodes.lose()} at {when}"


def kill_at_random(victim: Victim) -> str:
    """Kills two processes of trials and the driver at random moments."""
    for _ in range(2):
        victim.wait_for_epoch()
        time.sleep(random.uniform(0, 1))
        victim.kill_actor(processes.TRIAL)
    victim.wait_for_epoch()
    time.sleep(random.uniform(0, 1))
    victim.send(signal.SIGKILL)
    return "kill -9 of two trials' processes and the driver, at random moments"


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(name="driver", strike=kill_driver, exit_codes=(SIGKILLED,)),
        Fault(name="term", strike=terminate_driver, exit_codes=(143,)),
        Fault(name="interrupt", strike=interrupt_driver, exit_codes=(130,)),
        Fault(name="trial", strike=kill_trial, exit_codes=(0,)),
        Fault(name="worker", strike=kill_worker, exit_codes=(0,), num_workers=2),
        Fault(name="ddp-trial", strike=kill_trial, exit_codes=(0,), num_workers=2),
        Fault(name="random", strike=kill_at_random, exit_codes=(SIGKILLED,)),
        Fault(name="raylet", strike=kill_raylet, exit_codes=(0, 1), needs="ray"),
        Fault(name="gcs", strike=kill_gcs, exit_codes=(0, 1), needs="ray"),
        Fault(name="node", strike=lose_node, exit_codes=(0,), needs="nodes"),
        Fault(name="disk", strike=fill_disk, exit_codes=(1,), needs="disk"),
        Fault(name="journal", strike=tear_journal, exit_codes=(SIGKILLED,)),
        Fault(name="history", strike=tear_history, exit_codes=(SIGKILLED,)),
        Fault(name="checkpoint", strike=flip_bit, exit_codes=(SIGKILLED,)),
    )
}
