"""What a run does, read from its folder alone: while its driver lives, after it has ended, and after it was killed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from raysweep.commands.status import status
from raysweep.config import Objective
from raysweep.errors import CorruptFileError, StudyFailedError, UsageError
from raysweep.run_folder import RunFolder
from raysweep.search import status as status_file
from raysweep.search.progress import SearchProgress
from raysweep.search.session.lock import find_holder, hold_lock
from raysweep.search.status import StatusFile, describe_status, load_searched_s, look_at_run
from raysweep.trial_result import TrialResult

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import sys
from pathlib import Path
from raysweep.run_folder import RunFolder
from raysweep.search.status import describe_status, look_at_run
print(describe_status(look_at_run(RunFolder(Path(sys.argv[1])))))
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "cars")
    folder.path.mkdir()
    folder.study.write_text("{}")
    return folder


def make_progress() -> SearchProgress:
    """Trial 0 is complete, trial 1 in its second epoch."""
    ended = TrialResult(number=0, state="COMPLETE", value=0.5, best_epoch=1, params={}, duration_s=1.0)
    progress = SearchProgress([Objective(metric="val/accuracy")], 6, None, [ended])
    progress.trial_started(1, {"training": {"epochs": 8}}, {})
    progress.epoch_ended(1, {"epoch": 2, "val/accuracy": 0.81, "train/images_per_s": 1234.0})
    return progress


@contextmanager
def search(folder: RunFolder) -> Iterator[StatusFile]:
    """A driver at work in this process."""
    with hold_lock(folder), StatusFile(folder) as file:
        file.enter("search", make_progress())
        yield file


def test_another_process_sees_what_a_search_does(folder: RunFolder) -> None:
    with search(folder):
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(folder.path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{folder.path}: running, search (process {os.getpid()} on ")
    assert lines[1:4] == [
        "1 of 6 trials: 1 complete, 0 stopped early, 0 failed; 1 running",
        "best val/accuracy 0.5000 (trial 0), the baseline 0.5000",
        "  trial 1: epoch 2 of 8, val/accuracy 0.8100",
    ]
    assert lines[4].startswith("1,234 images/s, about ")


def test_the_time_of_the_search_is_that_of_all_sessions(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(status_file, "time", SimpleNamespace(monotonic=lambda: now))
    for session in range(2):
        with StatusFile(folder) as file:
            assert file.searched_s == 30.0 * session
            file.enter("search", make_progress())
            now += 30
            file.enter("final evaluation")
            now += 500
    assert load_searched_s(folder) == 60.0
    folder.status.write_text("{")
    assert load_searched_s(folder) == 0.0


def test_after_finalists_it_is_the_search_that_is_told(folder: RunFolder) -> None:
    with StatusFile(folder) as file:
        file.enter("search", make_progress())
        file.enter("finalists", SearchProgress([Objective(metric="val/accuracy")], 4, None, []))
        during = look_at_run(folder).written
        file.enter("final evaluation")
    written = look_at_run(folder).written
    assert during is not None
    assert during.search is not None
    assert written is not None
    assert written.search is not None
    assert (during.search.num_trials, written.search.num_trials) == (4, 6)


def test_the_final_evaluation_is_not_told_as_a_search_without_speed(folder: RunFolder) -> None:
    with hold_lock(folder):
        file = StatusFile(folder)
        file.enter("search", make_progress())
        assert "images/s" in describe_status(look_at_run(folder))
        file.enter("final evaluation")
        told = describe_status(look_at_run(folder))
    assert "final evaluation" in told
    assert "images/s" not in told


def test_who_looks_keeps_no_driver_out(folder: RunFolder) -> None:
    assert find_holder(folder) is None
    with hold_lock(folder):
        pass
    assert find_holder(folder) is None
    with hold_lock(folder):
        holder = find_holder(folder)
        assert holder is not None
        assert holder.pid == os.getpid()


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "finished"), (KeyboardInterrupt(), "interrupted"), (StudyFailedError("no trial\nof it"), "failed")],
)
def test_how_a_session_ended_is_known(folder: RunFolder, error: BaseException | None, state: str) -> None:
    def run() -> None:
        with search(folder):
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    seen = look_at_run(folder)
    assert (seen.state, seen.stage) == (state, None)
    assert ("error: no trial\n" in describe_status(seen)) == (state == "failed")
    assert ("--resume" in describe_status(seen)) == (state == "interrupted")


def test_a_driver_that_was_killed_is_interrupted_whatever_it_wrote(folder: RunFolder) -> None:
    with hold_lock(folder):
        StatusFile(folder).enter("search", make_progress())
    folder.results.write_text("{}")  # of a session before, which had fewer trials
    assert look_at_run(folder).state == "interrupted"


def test_another_command_in_the_folder_is_no_search(folder: RunFolder) -> None:
    with search(folder):
        pass
    change = json.loads(folder.status.read_text())
    folder.status.write_text(
        json.dumps({key: value for key, value in {**change, "pid": 1}.items() if key != "checksum"})
    )
    with hold_lock(folder):
        seen = look_at_run(folder)
    assert (seen.state, seen.stage) == ("running", None)
    assert "another command" in describe_status(seen)


def test_a_run_from_before_there_was_a_status_has_a_state(folder: RunFolder) -> None:
    assert describe_status(look_at_run(folder)).startswith(f"{folder.path}: interrupted\n")
    folder.results.write_text("{}")
    assert describe_status(look_at_run(folder)) == f"{folder.path}: finished"


def test_what_is_no_run_or_damaged_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of a run"):
        look_at_run(RunFolder(tmp_path))
    with pytest.raises(UsageError, match=r"there is no .*: a run that has just begun is still being prepared"):
        look_at_run(RunFolder(tmp_path / "none_yet"))
    folder.status.write_text('{"stage": "search"}')
    with pytest.raises(CorruptFileError, match=r"status\.json must hold what a run is doing"):
        look_at_run(folder)


def test_a_folder_that_takes_no_file_ends_no_run(folder: RunFolder) -> None:
    folder.status.mkdir()
    with search(folder) as file:
        file.time_passed()
    assert folder.status.is_dir()


def test_the_command_has_json_too(folder: RunFolder) -> None:
    with search(folder):
        done = CliRunner().invoke(status, [str(folder.path), "--json"], catch_exceptions=False)
    values = json.loads(done.output)
    assert (values["state"], values["written"]["stage"]) == ("running", "search")
    assert values["written"]["search"]["running"][0]["metrics"]["val/accuracy"] == 0.81


@pytest.mark.parametrize("stage", ["upload", "end"])
def test_a_run_is_finished_once_its_results_are_stored(folder: RunFolder, stage: str) -> None:
    def end() -> None:
        with search(folder) as file:
            file.enter(stage)
            folder.results.write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end()
    assert look_at_run(folder).state == "finished"
    assert "--resume" not in describe_status(look_at_run(folder))
