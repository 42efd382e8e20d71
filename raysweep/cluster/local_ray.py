"""Keeps a local Ray to this machine and this user: loopback addresses, a folder and a token that are private."""

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # comes with Ray

from raysweep import signals
from raysweep.cluster.ray_internals import ray_on_loopback
from raysweep.errors import UsageError

LOOPBACK = "127.0.0.1"
TOKEN = Path(".ray") / "auth_token"
"""Where, below the home folder, Ray keeps the token without which its ports take no commands."""
TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
MAX_FOLDER_BYTES = 40
"""A socket's path has at most 103 bytes, of which Ray's own names below its folder take 63."""


@contextlib.contextmanager
def keep_local() -> Iterator[dict[str, Any]]:
    """Keeps a Ray that starts meanwhile to this machine, user and command; yields what `ray.init` is to be told.

    Raises:
        UsageError: the folder for it is somebody else's.
    """
    protect_token()
    with on_loopback(), apart_from_group():
        yield {"_temp_dir": str(make_folder())}


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Has a Ray that starts meanwhile listen on 127.0.0.1 alone, as Ray does by itself on macOS and Windows.

    On Linux it listens on all addresses, whatever address it is given. A Ray without this switch does so here, too.
    gloo, which carries DDP without GPUs, would listen where the host's own name points to.
    """
    interface = find_interface(LOOPBACK, psutil.net_if_addrs())
    if interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    with ray_on_loopback():
        yield


@contextlib.contextmanager
def apart_from_group() -> Iterator[None]:
    """Has processes that start meanwhile be of a process group of their own.

    A signal to the whole group of a command, as `timeout` sends it, would end Ray before the command ends in order. But
    a command that a terminal's Ctrl-C goes to stays in its group, as Ray minds no Ctrl-C.
    """
    group = os.getpgrp()
    is_leader, may_leave = group == os.getpid(), _is_timeout(group) or not _in_foreground()
    if not signals.is_installed() or is_leader or not may_leave:
        yield
        return
    os.setpgid(0, 0)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):  # all others of the group have ended
            os.setpgid(0, group)


def _is_timeout(group: int) -> bool:
    """Tells whether a process group is led by `timeout`."""
    try:
        return bool(psutil.Process(group).name() == "timeout")
    except psutil.Error:
        return False


def _in_foreground() -> bool:
    """Tells whether this process's group has the keys of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def find_interface(address: str, interfaces: Mapping[str, Sequence[Any]]) -> str | None:
    """Finds the network interface with this address. `interfaces`: by name, the addresses that psutil lists."""
    return next((name for name, entries in interfaces.items() if address in [entry.address for entry in entries]), None)


def make_folder() -> Path:
    """Makes the folder for this user's local Rays, and returns it.

    Ray lets every user of the machine write where its sockets, logs and code are: so that folder of Ray's own lies in
    one that only this user can enter.

    Raises:
        UsageError: the folder is somebody else's.
    """
    name = f"ray-{os.getuid()}"
    base = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if len(os.fsencode(base / name / "ray")) > MAX_FOLDER_BYTES:
        base = Path("/tmp")
    folder = base / name
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UsageError(
            f"the folder of a local Ray must be one's own, {folder} belongs to user {found.st_uid}; remove it, or "
            "give another place with RAY_TMPDIR"
        )
    folder.chmod(0o700)
    return folder / "ray"


def protect_token() -> None:
    """Makes Ray's token unless there is one, and lets only its owner read it: Ray's own goes by the umask."""
    if any(variable in os.environ for variable in TOKEN_VARIABLES):
        return
    path = Path.home() / TOKEN
    with contextlib.suppress(OSError):  # Ray says what is wrong with the folder
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_secret(path, secrets.token_hex(32))
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _write_secret(path: Path, text: str) -> None:
    """Writes a file that at no moment is readable by others, or is there in part; one that is there stays."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            os.fsync(descriptor)
        os.link(temporary, path)
    finally:
        Path(temporary).unlink()
