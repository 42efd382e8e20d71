"""What drivers that were killed leave in the temporary directory: the next one clears it, and only that."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.cluster import leftovers

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import sys, time
from pathlib import Path
from raysweep.cluster import leftovers
leftovers.note_local_ray(Path(sys.argv[1]))
print(leftovers.hold_folder(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    monkeypatch.undo()
    tempfile.tempdir = None


def start_driver(session: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder, and says that it has started a local Ray."""
    session.mkdir()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(session)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    return driver, Path(driver.stdout.readline().strip())


def start_agent(session: Path) -> subprocess.Popen[bytes]:
    """A process as Ray starts them: its log is in the session's folder."""
    (session / "logs").mkdir()
    with (session / "logs" / "agent.out").open("w") as log:
        return subprocess.Popen(["sleep", "60"], stdout=log)


def test_a_killed_driver_s_folders_and_processes_are_cleared_and_a_living_one_s_are_not(temporary: Path) -> None:
    sessions = [temporary / f"session_{name}" for name in ("dead", "living")]
    drivers, folders = zip(*(start_driver(path) for path in sessions), strict=True)
    somebody_else = temporary / "session_of_somebody_else"
    somebody_else.mkdir()
    agents = [start_agent(path) for path in (*sessions, somebody_else)]
    with (sessions[0] / f"{leftovers.DRIVER_LOG}1.log").open("w") as log:
        agents.append(subprocess.Popen(["sleep", "60"], stdout=log))  # a driver of somebody's
    with (sessions[0] / "logs" / "agent.out").open() as read:
        agents.append(subprocess.Popen(["sleep", "60"], stdin=read))  # somebody reads the log
    other = temporary / "raysweep-of-an-earlier-version"
    other.mkdir()
    try:
        leftovers.clear()
        assert [path.is_dir() for path in (*sessions, *folders)] == [True] * 4
        drivers[0].kill()
        drivers[0].wait()
        leftovers.clear()
        assert [path.is_dir() for path in (*sessions, *folders)] == [False, True, False, True]
        assert agents[0].wait(10) != 0
        assert [agent.poll() for agent in agents[1:]] == [None] * 4
        assert other.is_dir(), "nobody knows whose it is"
        drivers[1].communicate("")
        assert [path.is_dir() for path in (sessions[1], folders[1])] == [False, False], "who ends well clears its own"
    finally:
        for process in (*drivers, *agents):
            process.kill()
            process.communicate()


@pytest.mark.parametrize("noted", ["", "[]", "{}", '{"session": "/"}', '{"session": 1}'])
def test_a_damaged_note_clears_its_folder_only(temporary: Path, noted: str) -> None:
    folder = temporary / "raysweep-damaged"
    folder.mkdir()
    (folder / leftovers.OWNER).write_text(noted)
    leftovers.clear()
    assert not folder.exists()
    assert temporary.is_dir()


def test_a_session_s_folder_is_one_of_ray_s(temporary: Path) -> None:
    (temporary / "photos").mkdir()
    (temporary / "session_latest").symlink_to(temporary / "photos")
    for name in ("photos", "session_latest"):
        leftovers.remove_session(temporary / name)
    assert (temporary / "photos").is_dir()
