"""Runs the search that a fault strikes: `raysweep tune` in a process of its own, session after session."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raysweep.chaos.nodes import Nodes
from raysweep.chaos.processes import ClusterProcesses, LocalProcesses
from raysweep.chaos.small_disk import SmallDisk
from raysweep.errors import RaysweepError
from raysweep.file_guard import read_json_lines
from raysweep.run_folder import RunFolder, TrialFolder

LOCAL = "local"
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from raysweep.cli import main; main()"
)
"""What a shell starts in the background ignores Ctrl-C, and passes that on."""
PATIENCE_S = 300.0
"""How long a search may take to reach an epoch, or to end."""
GRACE_S = 60.0
"""How long processes may take to end after their search."""
MIN_EPOCHS = 2
"""Epochs that a trial has when it is struck."""


class ChaosError(RaysweepError):
    """A fault that could not be brought about, or a search that hangs: the case has failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Says where and how the searches of a chaos test run."""

    study_file: Path
    storage: Path
    logs: Path
    data: str | None = None
    address: str = LOCAL
    is_shared: bool = False
    """Whether others may use that Ray too, to which this process is connected then."""
    num_workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the drivers, beside this process's own."""
    flags: tuple[str, ...] = ("--pruner", "none")
    """Further flags of `tune`; by default all trials run to their ends."""
    disk: SmallDisk | None = None
    """What the storage is on; none: nothing special."""
    nodes: Nodes | None = None
    """The cluster that a node can be taken from; none: there is none."""


class Victim:
    """A search that is run, struck, and resumed."""

    def __init__(self, setting: Setting, name: str) -> None:
        self.setting = setting
        self.name = name
        self.folder = RunFolder((setting.disk.view if setting.disk else setting.storage) / name)
        self.num_sessions = 0
        self.lasted_s = 0.0
        """From the fault, or from the start where there was none, to the end of the last session."""
        self._since = 0.0
        self.log = setting.logs
        self._driver: subprocess.Popen[bytes] | None = None
        self._processes: list[LocalProcesses | ClusterProcesses] = []

    @property
    def driver(self) -> subprocess.Popen[bytes]:
        """Returns the driver of the last session."""
        assert self._driver is not None
        return self._driver

    @property
    def processes(self) -> LocalProcesses | ClusterProcesses:
        """Returns the processes of the last session."""
        return self._processes[-1]

    def start(self) -> None:
        """Starts a session: the first one, or one that goes on."""
        words = ["tune", self.setting.study_file, "--storage", self.setting.storage, "--name", self.name]
        words += ["--address", self.setting.address, "--workers", self.setting.num_workers, "--wandb", "disabled"]
        words += self.setting.flags
        words += ["--data", self.setting.data] if self.setting.data else []
        words += ["--resume"] if self.num_sessions else []
        prefix = self.setting.disk.prefix if self.setting.disk else ()
        self.num_sessions += 1
        self._since = time.monotonic()
        self.log = self.setting.logs / f"{self.name}-{self.num_sessions}.txt"
        with self.log.open("w") as log, self.log.with_suffix(".stdout.txt").open("w") as stdout:
            self._driver = subprocess.Popen(
                [*prefix, sys.executable, "-c", PROGRAM, *map(str, words)],
                env={**os.environ, **self.setting.environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
            )
        pid = self._driver.pid
        self._processes.append(ClusterProcesses(pid) if self.setting.is_shared else LocalProcesses(pid))

    def wait_for_epoch(self) -> str:
        """Waits until a trial is under way that has trained MIN_EPOCHS; returns which, and the epoch.

        Raises:
            ChaosError: the search has ended, or takes too long.
        """
        struck: list[str] = []

        def is_under_way() -> bool:
            for trial in self.list_under_way():
                epochs = len(read_json_lines(trial.metrics))
                if epochs >= MIN_EPOCHS:
                    struck.append(f"trial {int(trial.path.name)}, epoch {epochs}")
                    return True
            return False

        self._wait(is_under_way, f"a trial with {MIN_EPOCHS} epochs")
        self._since = time.monotonic()
        return struck[0]

    def list_under_way(self) -> list[TrialFolder]:
        """Lists the trials that have a checkpoint to go on from."""
        return [trial for trial in self.folder.list_trials() if trial.checkpoint.exists()]

    def kill_actor(self, class_name: str) -> str:
        """Kills one of the search's processes, by Ray's class of its actor, once there is one; returns which."""
        killed: list[str] = []

        def kill() -> bool:
            killed.extend(filter(None, [self.processes.kill_actor(class_name)]))
            return bool(killed)

        self._wait(kill, f"a process of {class_name}")
        return killed[0]

    def kill_daemon(self, program: str) -> str:
        """Kills one of the daemons of the Ray that the search has started; returns which."""
        assert isinstance(self.processes, LocalProcesses)
        killed = self.processes.kill_daemon(program)
        if killed is None:
            raise ChaosError(f"there is no process of {program} below the driver")
        return killed

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the driver, and waits until it has ended."""
        if isinstance(self.processes, LocalProcesses):
            self.processes.look()
        self.driver.send_signal(number)
        self.wait()

    def wait(self) -> int:
        """Waits for the end of the session; returns the exit code.

        Raises:
            ChaosError: it takes too long; the driver is killed.
        """
        if self.driver.returncode is not None:
            return self.driver.returncode
        limit = time.monotonic() + PATIENCE_S
        while self.driver.poll() is None:
            if time.monotonic() > limit:
                self.driver.kill()
                raise ChaosError(f"the search did not end within {PATIENCE_S:.0f} s; its last line: {self.last_line()}")
            if isinstance(self.processes, LocalProcesses):
                self.processes.look()
            time.sleep(0.5)
        self.lasted_s = time.monotonic() - self._since
        return self.driver.wait()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not condition():
            if self.driver.poll() is not None:
                raise ChaosError(f"the search ended before {what} could be met; its last line: {self.last_line()}")
            if time.monotonic() > limit:
                raise ChaosError(f"no {what} within {PATIENCE_S:.0f} s; the last line: {self.last_line()}")
            time.sleep(0.05)

    def read_log(self) -> str:
        """Reads the stderr of the last session."""
        return self.log.read_text(errors="replace")

    def last_line(self) -> str:
        """Returns the last line of the last session's stderr."""
        lines = [line for line in self.read_log().splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def list_left(self) -> list[str]:
        """Lists processes of all sessions that have not ended GRACE_S after the last."""
        limit = time.monotonic() + GRACE_S
        while (left := self._list_left()) and time.monotonic() < limit:
            time.sleep(0.2)
        return left

    def _list_left(self) -> list[str]:
        local = [found for found in self._processes if isinstance(found, LocalProcesses)]
        return sorted({name for found in local for name in found.list_left()})

    def clear(self) -> None:
        """Kills the driver, where it lives, and all processes that it has left."""
        for found in self._processes:
            if isinstance(found, LocalProcesses):
                found.look()
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()
        for found in self._processes:
            if isinstance(found, LocalProcesses):
                found.clear()
