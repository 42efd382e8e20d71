"""What the chaos test rests on: its study, its small disk, what it is asked for, a search that ends early. No Ray."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from raysweep.catalogue import list_studies, load_study
from raysweep.chaos.faults import FAULTS
from raysweep.chaos.run import Outcome, Question, describe, run_chaos
from raysweep.chaos.small_disk import find_obstacle, open_small_disk
from raysweep.chaos.study import NUM_EPOCHS, NUM_TRIALS, SAMPLE, shrink, write_study_file
from raysweep.chaos.table import draw_table
from raysweep.chaos.victim import ChaosError, Setting, Victim
from raysweep.commands.doctor import doctor
from raysweep.errors import UsageError


@pytest.mark.parametrize("name", sorted(list_studies()))
def test_each_study_is_cut_down_to_trials_whose_points_are_fixed(name: str) -> None:
    study = shrink(load_study(name))
    assert study.budget.trials == NUM_TRIALS
    assert len(study.starting_points) == NUM_TRIALS
    assert study.starting_points == shrink(load_study(name)).starting_points
    assert {study.trial_config(point, 0).training.epochs for point in study.starting_points} == {NUM_EPOCHS}


def test_a_study_without_a_space_has_the_baseline_alone() -> None:
    study = shrink(SAMPLE.with_settings(["task.learning_rate=0.001"]))
    assert (study.budget.trials, study.starting_points) == (1, [{}])


def test_the_file_of_the_study_is_one_that_tune_takes(tmp_path: Path) -> None:
    for name, study in ((None, SAMPLE), ("fashion_cnn", load_study("fashion_cnn"))):
        path = tmp_path / f"{name}.py"
        path.write_text(write_study_file(name))
        assert load_study(str(path)).to_json() == shrink(study).to_json()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--chaos", "--faults", "driver,earthquake"], "unknown fault 'earthquake'"),
        (["--chaos", "no_such"], "unknown study 'no_such'"),
        (["--faults", "driver"], "--faults goes with --chaos"),
    ],
)
def test_what_cannot_be_asked_for_is_wrong_usage_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(doctor, [*arguments, "--storage", str(tmp_path / "results")])
    assert message in f"{done.exception} {done.output}"
    assert isinstance(done.exception, UsageError) or done.exit_code == 2
    assert not (tmp_path / "results").exists()


def test_a_small_disk_is_full_when_it_is_filled_and_what_was_on_it_is_kept(tmp_path: Path) -> None:
    """Where it cannot be had, the reason is one line."""
    obstacle = find_obstacle(tmp_path / "try")
    if obstacle is not None:
        assert len(obstacle.splitlines()) == 1
        return
    folder = tmp_path / "disk"
    with open_small_disk(folder, 4 << 20) as disk:
        (disk.view / "before").write_text("kept")
        assert not (folder / "before").exists(), "only its own processes see it"
        size = disk.fill()
        assert 3 << 20 < size <= 4 << 20
        with pytest.raises(OSError, match="No space left"):
            (disk.view / "more").write_bytes(b"\0" * 8192)
        disk.free()
        (disk.view / "after").write_bytes(b"\0" * 8192)
    assert (folder / "before").read_text() == "kept"
    assert (folder / "after").is_file()


def test_a_search_that_ends_before_it_is_struck_is_a_failed_case_with_its_last_line(tmp_path: Path) -> None:
    victim = Victim(Setting(study_file=tmp_path / "none.py", storage=tmp_path, logs=tmp_path), "driver")
    try:
        victim.start()
        with pytest.raises(ChaosError, match=r"ended before a trial with 2 epochs .* no study file"):
            FAULTS["driver"].strike(victim)
        assert victim.list_left() == []
    finally:
        victim.clear()


def test_the_table_has_a_verdict_for_each_and_counts_what_was_not_possible_apart() -> None:
    outcomes = [
        Outcome(fault="driver", done="kill -9", answer="exit -9", books="3 trials, 30 epochs"),
        Outcome(fault="trial", done="kill -9", answer="exit 1", problems=("exit code 1 in place of 0",)),
        Outcome(fault="disk", done="no right to mount", possible=False),
    ]
    console = Console(width=160, record=True)
    console.print(draw_table(outcomes))
    rows = [line for line in console.export_text().splitlines() if "│" in line]
    for row, words in zip(
        rows,
        (("as undisturbed", "passed"), ("exit code 1 in place of 0", "FAILED"), ("no right", "not possible here")),
        strict=True,
    ):
        assert all(word in row for word in words), row
    assert describe(outcomes) == "1 passed, 1 FAILED, 1 not possible here"


def test_a_storage_that_cannot_be_written_to_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--storage must be a folder that can be written to"):
        run_chaos(Question(storage=tmp_path / "file"))
