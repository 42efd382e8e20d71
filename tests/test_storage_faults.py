"""Storage that is full, gone or read-only, without Ray: one kind of error, waited for, and nothing half-written."""

import contextlib
import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from PIL import Image

from raysweep import atomic_files, storage_faults
from raysweep.errors import StorageError
from raysweep.run_folder import RunFolder
from raysweep.search.session.storage import JournalStudies, guard_optuna, open_storage
from raysweep.storage_faults import find_fault, guard_work, guard_writing, patiently
from raysweep.train import checkpoint

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_faults, "PATIENCE_S", 0.0)
    monkeypatch.setattr(storage_faults, "PAUSE_S", 0.01)
    monkeypatch.setattr(storage_faults, "_outage_began", None)


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: atomic_files.write_text(path, "x" * 100_000),
    "json": lambda path: atomic_files.write_json(path, ["x" * 100_000]),
    "json lines": lambda path: atomic_files.write_json_lines(path, [{"x": "y" * 100_000}]),
    "tensors": lambda path: checkpoint.save_tensors(path, {"a": torch.zeros(50_000)}, {}),
    "an image": lambda path: atomic_files.write_atomically(
        path, lambda place: Image.effect_noise((500, 500), 60).save(place, format="png")
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_says_in_one_kind_of_error_that_there_is_no_space(
    tmp_path: Path, writer: str, limit_files: Callable[[int], Any]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with limit_files(20_000), pytest.raises(StorageError, match=f"no space for {path} .*are free; free space"):
        WRITERS[writer](path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "nothing half-written stays"


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_says_that_there_is_no_such_folder(tmp_path: Path, writer: str) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(StorageError, match="must be in reach"):
        WRITERS[writer](tmp_path / "a file" / "file")


def test_a_folder_is_not_made_where_a_disk_is_no_longer_mounted(tmp_path: Path) -> None:
    atomic_files.make_folder(tmp_path / "trials")
    atomic_files.make_folder(tmp_path / "trials")
    with pytest.raises(StorageError, match="must be in reach"):
        atomic_files.make_folder(tmp_path / "run" / "trials")
    assert not (tmp_path / "run").exists()


def test_the_size_that_is_needed_is_said(tmp_path: Path, limit_files: Callable[[int], Any]) -> None:
    with limit_files(1000), pytest.raises(StorageError, match="it takes 200 kB, "):
        checkpoint.save_tensors(tmp_path / "x", {"a": torch.zeros(50_000)}, {})


def test_what_cannot_be_written_anywhere_is_no_fault_of_the_storage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic_files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    picture = Image.new("F", (4, 4))
    with pytest.raises(OSError, match="cannot write mode F"):
        atomic_files.write_atomically(tmp_path / "x.png", lambda path: picture.save(path, format="png"))


def test_a_fault_travels_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(StorageError("no space for x")))
    assert (type(fault), str(fault), fault.exit_code) == (StorageError, "no space for x", 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE])
def test_each_kind_says_what_is_wrong_and_what_to_do(tmp_path: Path, number: int) -> None:
    message = f"{tmp_path}/x.*{os.strerror(number)}.*; (free|mount)"
    with pytest.raises(StorageError, match=message) as caught, guard_writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert "\n" not in str(caught.value)


def test_which_errors_are_faults_of_the_storage(tmp_path: Path) -> None:
    def find(number: int, path: object = None) -> bool:
        return find_fault(OSError(number, "?", path), tmp_path) is not None

    assert find(errno.ENOSPC)
    assert find(errno.ENOSPC, "/somewhere/else")
    assert find(errno.ENOENT, str(tmp_path / "images.npy"))
    assert not find(errno.ENOENT, "/somewhere/else")
    assert not find(errno.ENOENT)
    assert not find(errno.ECONNREFUSED, str(tmp_path))
    assert find_fault(ValueError("NaN"), tmp_path) is None
    with pytest.raises(ValueError, match="NaN"), guard_work(tmp_path):
        raise ValueError("NaN")


# patience


def test_an_outage_is_waited_for_and_said_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_faults, "PATIENCE_S", 60.0)
    folder = tmp_path / "mounted later"
    threading.Timer(0.3, folder.mkdir).start()
    patiently(lambda: atomic_files.make_folder(folder / "trial"))
    assert (folder / "trial").is_dir()


def test_an_outage_is_waited_for_once_however_many_writes_it_meets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    attempts: list[float] = []

    def sleep(duration_s: float) -> None:
        nonlocal now
        now += duration_s

    def write() -> None:
        attempts.append(now)
        atomic_files.make_folder(tmp_path / "no" / "folder")

    monkeypatch.setattr(storage_faults, "PATIENCE_S", 1.0)
    monkeypatch.setattr(storage_faults, "PAUSE_S", 0.25)
    monkeypatch.setattr(storage_faults, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    for _ in range(3):
        with pytest.raises(StorageError):
            patiently(write)
    assert attempts == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0], "the later calls try once each"
    patiently(lambda: None)
    with pytest.raises(StorageError):
        patiently(write)
    assert attempts[7:] == [1.0, 1.25, 1.5, 1.75, 2.0], "after a success there is patience again"


# the Optuna study's journal


def open_study(folder: Path) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=open_storage(RunFolder(folder), None), load_if_exists=True)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("room", [0, 1, 40, 90])
def test_what_a_full_disk_took_of_a_journal_line_is_removed_again(
    tmp_path: Path, room: int, together: bool, limit_files: Callable[[int], Any]
) -> None:
    study = open_study(tmp_path)
    assert isinstance(study._storage, JournalStudies)
    study.tell(study.ask(), 0.5)
    journal = RunFolder(tmp_path).journal
    before = journal.read_bytes()
    trial = study.ask()
    for _ in range(2):
        size = journal.stat().st_size
        context = study._storage.write_together() if together else contextlib.nullcontext()
        with limit_files(size + room), pytest.raises(StorageError, match=str(journal)), context:
            trial.set_user_attr("text", "x" * 200)
        assert journal.stat().st_size == size
    trial.set_user_attr("text", "y")
    study.tell(trial, 0.1)
    assert journal.read_bytes().startswith(before)
    for line in journal.read_text().splitlines():
        json.loads(line)
    assert [trial.value for trial in open_study(tmp_path).trials] == [0.5, 0.1]


def test_a_journal_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    trial = open_study(folder).ask()
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(StorageError, match="must be in reach"):
        trial.set_user_attr("x", 1)
    assert not RunFolder(folder).journal.exists()


def test_a_database_that_is_gone_is_a_fault_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    url = f"sqlite:///{tmp_path}/db/optuna.db"
    trial = optuna.create_study(storage=open_storage(RunFolder(tmp_path), url)).ask()
    shutil.rmtree(tmp_path / "db")
    with pytest.raises(StorageError, match="the database of the Optuna study"), guard_optuna():
        trial.set_user_attr("x", 1)


# a disk that is full indeed

FULL_DISK = """
import pathlib, sys
import torch
from raysweep import atomic_files
from raysweep.errors import StorageError
from raysweep.train import checkpoint
folder = pathlib.Path(sys.argv[1])
atomic_files.write_text(folder / "kept", "kept")
for number in range(100):
    try:
        checkpoint.save_tensors(folder / f"{number}.safetensors", {"a": torch.zeros(100_000)}, {})
    except StorageError as fault:
        print(fault)
        break
assert len(list(folder.iterdir())) == number + 1, list(folder.iterdir())
for count in range(number):
    checkpoint.load_tensors(folder / f"{count}.safetensors")
assert (folder / "kept").read_text() == "kept"
try:
    atomic_files.write_text(folder / "text", "x" * 400_000)
except StorageError as fault:
    print(fault)
"""


def in_own_mounts(command: str) -> list[str]:
    """A command line that runs a shell command where an ordinary user may mount."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command]


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = in_own_mounts("mount -t tmpfs -o size=1m none /tmp")
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="this system lets no user mount a small disk (unshare --user --mount)")
def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FULL_DISK)
    (tmp_path / "disk").mkdir()
    command = f"mount -t tmpfs -o size=2m none {tmp_path}/disk && {sys.executable} {tmp_path}/script.py {tmp_path}/disk"
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        in_own_mounts(command), capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    tensors, text = done.stdout.splitlines()
    assert "No space left on device" in tensors
    assert "it takes 400 kB" in tensors
    assert "it takes 400 kB" in text
