"""The list of runs: the state of each, whatever has happened to it; looking changes nothing and keeps nobody out."""

import fcntl
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from raysweep.commands.runs import runs
from raysweep.commands.show import show
from raysweep.errors import UsageError
from raysweep.run_folder import RunFolder
from raysweep.runs.listing import describe_lift, describe_run, describe_runs, format_age, list_runs
from raysweep.search.session import lock
from raysweep.search.session.lock import hold_lock, is_locked

MakeRun = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> Path:
    """A storage with a run in each state on which no command works, and folders that are no runs."""
    storage = tmp_path_factory.mktemp("mixed")
    make_run(storage / "done", num_trials=7)
    make_run(storage / "before_evaluation", num_trials=4, end="search")
    make_run(storage / "under_way", num_trials=4, end="trial")
    no_journal = make_run(storage / "no_trial", num_trials=1, end="search")
    no_journal.journal.unlink()
    torn = make_run(storage / "torn", num_trials=4)
    torn.results.write_text(torn.results.read_text()[:-50])
    make_run(storage / "no_study", num_trials=1, end="search").study.write_text("{}")
    (storage / "photographs").mkdir()
    (storage / ".cache").mkdir()
    return storage


def read_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_run_has_its_state(mixed: Path) -> None:
    before = read_files(mixed)
    states = {entry.name: entry.state for entry in list_runs(mixed)}
    assert states == {
        "done": "finished",
        "before_evaluation": "interrupted",
        "under_way": "interrupted",
        "no_trial": "interrupted",
        "torn": "damaged",
        "no_study": "damaged",
    }
    assert read_files(mixed) == before


def test_a_line_has_best_lift_age_and_size(mixed: Path) -> None:
    entry = next(entry for entry in list_runs(mixed) if entry.name == "done")
    assert (entry.num_ended, entry.num_asked, entry.task, entry.objective) == (7, 7, "classification", "val/accuracy")
    assert entry.best is not None
    assert entry.baseline is not None
    assert entry.best >= entry.baseline > 0.9
    assert entry.size_bytes == sum(len(content) for content in read_files(mixed / "done").values())
    assert entry.began is not None
    line = describe_runs([entry], entry.began + timedelta(minutes=3)).splitlines()[1]
    assert "7/7" in line
    assert "+0.1000 (+0.05 to +0.1500)" in line
    assert " 3 min" in line or " 180 s" in line


def test_a_run_that_lost_its_results_shows_what_the_optuna_study_has(mixed: Path) -> None:
    entry = next(entry for entry in list_runs(mixed) if entry.name == "torn")
    assert entry.num_ended == 4
    assert entry.best is not None
    assert entry.problem is not None
    assert "results.json" in entry.problem


@pytest.mark.parametrize(("place", "state"), [(-20, "interrupted"), (400, "damaged")])
def test_a_journal_may_end_in_a_torn_line_but_have_no_other_damage(
    tmp_path: Path, make_run: MakeRun, place: int, state: str
) -> None:
    """Torn by a kill: `--resume` removes the line."""
    run = make_run(tmp_path / "run", num_trials=3, end="trial")
    content = run.journal.read_bytes()
    run.journal.write_bytes(content[:place] if place < 0 else content[:place] + b"?" + content[place + 1 :])
    before = run.journal.read_bytes()
    assert describe_run(run).state == state
    assert run.journal.read_bytes() == before


def test_where_all_trials_failed_the_run_failed(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "run", num_trials=1, end="search")
    lines = [json.loads(line) for line in run.journal.read_text().splitlines()]
    for line in lines:
        if line["op_code"] == 6 and line["state"] == 1:
            line.update(state=3, values=None)
        line.pop("checksum")
    run.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert describe_run(run).state == "failed"


def test_a_run_on_which_a_command_works_is_running(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "run", num_trials=2)
    assert not is_locked(run)
    with hold_lock(run):
        assert describe_run(run).state == "running"
    assert describe_run(run).state == "finished"


def test_a_look_at_the_lock_keeps_no_driver_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    run.lock.touch()
    looked, has_met_it = threading.Event(), threading.Event()
    pauses: list[float] = []

    def look() -> None:
        with run.lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            looked.set()
            has_met_it.wait(60)

    thread = threading.Thread(target=look)

    def pause(duration_s: float) -> None:
        pauses.append(duration_s)
        has_met_it.set()
        thread.join()

    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=pause))
    thread.start()
    assert looked.wait(60)
    with hold_lock(run):
        assert pauses == [lock.LOOK_S]
    with run.lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(UsageError, match="another driver works"), hold_lock(run):
            pass


def test_the_command_prints_a_table_or_json(mixed: Path, tmp_path: Path) -> None:
    table = CliRunner().invoke(runs, [str(mixed)])
    assert table.exit_code == 0
    assert table.stdout.splitlines()[0].split()[:3] == ["run", "study", "state"]
    entries = json.loads(CliRunner().invoke(runs, [str(mixed), "--json"]).stdout)
    assert {entry["name"] for entry in entries} == {path.parent.name for path in mixed.glob("*/study.json")}
    done = next(entry for entry in entries if entry["name"] == "done")
    assert datetime.fromisoformat(done["began"]) < datetime.now(UTC)
    nothing = CliRunner().invoke(runs, [str(tmp_path)])
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    with pytest.raises(UsageError, match="STORAGE must be the folder that runs are in"):
        list_runs(tmp_path / "none")


def test_a_run_is_shown_with_a_line_for_each_trial(mixed: Path) -> None:
    text = CliRunner().invoke(show, [str(mixed / "under_way")]).stdout
    assert "interrupted" in text.splitlines()[-1]
    with hold_lock(RunFolder(mixed / "under_way")):
        text = CliRunner().invoke(show, [str(mixed / "under_way")]).stdout
    assert "running" in text.splitlines()[-1]
    values = json.loads(CliRunner().invoke(show, [str(mixed / "done"), "--json"]).stdout)
    assert [trial["number"] for trial in values["trials"]] == list(range(7))
    assert values["trials"][6]["error"] == "train/loss is nan"
    assert values["trials"][0]["proposed_by"] == "baseline"


@pytest.mark.parametrize(("seconds", "text"), [(-5.0, "0 s"), (30.0, "30 s"), (7200.0, "2.0 h"), (864000.0, "10 d")])
def test_ages_are_short(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize("key", ["name", "seed", "task", "training", "space", "baseline", "objective", "budget"])
@pytest.mark.parametrize("value", [None, [1]])
def test_a_study_that_was_changed_by_hand_is_damaged(
    tmp_path: Path, make_run: MakeRun, key: str, value: object
) -> None:
    folder = make_run(tmp_path / "changed", num_trials=1, end="search")
    stored = json.loads(folder.study.read_text())
    del stored["checksum"], stored[key]
    folder.study.write_text(json.dumps(stored if value is None else {**stored, key: value}))
    if (key, value) != ("seed", [1]):  # which is only shown
        assert describe_run(folder).state == "damaged"


def test_a_folder_that_may_not_be_read_is_damaged(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "mine", num_trials=1)
    (tmp_path / "theirs").mkdir()
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.parent.name == "theirs":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    states = {entry.name: (entry.state, entry.problem or "") for entry in list_runs(tmp_path)}
    assert states["mine"] == ("finished", "")
    assert states["theirs"][0] == "damaged"
    assert "Permission denied" in states["theirs"][1]


@pytest.mark.parametrize(
    ("lift", "text"),
    [
        ({"difference": 0.1, "low": 0.05, "high": 0.15}, "+0.1000 (+0.05 to +0.1500)"),
        ({"difference": -0.1, "low": -0.2}, "-0.1000"),
        ({"difference": "much"}, "–"),
        (None, "–"),
    ],
)
def test_a_lift_is_up_to_the_task(lift: object, text: str) -> None:
    assert describe_lift(lift) == text
