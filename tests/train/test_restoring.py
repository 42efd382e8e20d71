"""Damaged and lost files of a trial: it goes on from what is whole, and ends as if nothing had been."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysweep.config import Objective
from raysweep.data.images import PreparedData
from raysweep.file_guard import read_json_lines
from raysweep.run_folder import TrialFolder
from raysweep.train import checkpoint
from raysweep.train.history import OF_MACHINES
from raysweep.train.loop import fit
from raysweep.train.report import EpochReport
from raysweep.trial_config import TrialConfig

OBJECTIVE = Objective(metric="val/loss", direction="minimize")
LAST, PREVIOUS, BEST = "last/checkpoint.safetensors", "last/previous.safetensors", "best/model.safetensors"


class StoppedError(Exception):
    """The process ends here."""


def flip_bit(path: Path, place: float = 0.9) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip_bit,
    "0 bytes": empty,
    "cut": cut,
    "removed": Path.unlink,
}


class Trial:
    """One trial in a folder, which can be stopped and gone on with."""

    def __init__(self, path: Path, data: PreparedData, config: TrialConfig) -> None:
        self.path = path
        self.data = data
        self.config = config

    def run(self, until: int | None = None, num_reported: int | None = None) -> list[EpochReport]:
        reports: list[EpochReport] = []

        def report(epoch: EpochReport) -> None:
            reports.append(epoch)
            if epoch.metrics["epoch"] == until:
                raise StoppedError

        options: dict[str, Any] = {"folder": TrialFolder(self.path), "resume": True, "num_reported": num_reported}
        if until is None:
            fit(self.config, self.data, OBJECTIVE, report=report, **options)
        else:
            with pytest.raises(StoppedError):
                fit(self.config, self.data, OBJECTIVE, report=report, **options)
        return reports

    def results(self) -> tuple[Any, ...]:
        """All that the trial leaves, without what the clock says."""
        history = read_json_lines(self.path / "metrics.jsonl")
        rows = [{key: value for key, value in row.items() if key not in OF_MACHINES} for row in history]
        weights, facts = checkpoint.load_tensors(self.path / BEST)
        return rows, facts, {name: value.tolist() for name, value in weights.items()}


@pytest.fixture
def make_trial(
    tmp_path: Path, make_data: Callable[..., PreparedData], make_config: Callable[..., TrialConfig]
) -> Callable[..., Trial]:
    data = make_data(num_train=16, num_val=8)
    (tmp_path / "trials").mkdir()

    def make(name: str, **values: Any) -> Trial:
        return Trial(tmp_path / "trials" / name, data, make_config(**{"epochs": 5, **values}))

    return make


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("damaged", "goes_on_from"),
    [
        ((LAST,), 2),
        ((PREVIOUS,), 3),
        ((LAST, PREVIOUS), 0),
        ((BEST,), 3),
        ((LAST, BEST), 2),
        ((LAST, PREVIOUS, BEST), 0),
    ],
)
def test_a_trial_goes_on_from_the_last_whole_checkpoint(
    make_trial: Callable[..., Trial], damage: str, damaged: tuple[str, ...], goes_on_from: int
) -> None:
    """The objective is better with each epoch here, so that each checkpoint is of the best epoch so far."""
    whole, trial = make_trial("whole"), make_trial("trial")
    whole.run()
    trial.run(until=3)
    for name in damaged:
        DAMAGES[damage](trial.path / name)
    reports = trial.run(num_reported=3)
    epochs = [int(report.metrics["epoch"]) for report in reports]
    assert epochs == list(range(max(goes_on_from, 1), 6)), "the last one restored is reported again"
    assert [report.finished for report in reports] == [*[False] * (len(reports) - 1), True]
    assert trial.results() == whole.results()
    moved = [name for name in damaged if damage != "removed" and damaged != (PREVIOUS,)]  # that one nobody reads
    said = [report.notice or "" for report in reports]
    assert all(name in said[0] for name in moved)
    assert not any(said[1:])
    for name in moved:
        assert (trial.path / f"{name}.damaged").is_file(), "moved aside, never removed"


@pytest.mark.parametrize("until", [2, 3, 4])
def test_a_lost_best_model_is_trained_again(make_trial: Callable[..., Trial], until: int) -> None:
    """Where the best epoch is the first, no checkpoint has its model: the trial begins anew, under its name."""
    values = {"learning_rate": 3.0, "optimizer": "sgd", "gradient_clip_norm": 1.0, "seed": 3}
    whole, trial = make_trial("whole", **values), make_trial("trial", **values)
    whole.run()
    trial.run(until=until)
    _, facts = checkpoint.load_tensors(trial.path / BEST)
    flip_bit(trial.path / BEST)
    reports = trial.run(num_reported=until)
    expected = facts["epoch"] if facts["epoch"] >= until - 1 else 1
    assert [int(report.metrics["epoch"]) for report in reports] == list(range(expected, 6))
    assert "best/model.safetensors" in (reports[0].notice or "")
    assert trial.results() == whole.results()


def test_a_folder_of_an_earlier_version_has_one_checkpoint(make_trial: Callable[..., Trial]) -> None:
    whole, trial = make_trial("whole"), make_trial("trial")
    whole.run()
    trial.run(until=3)
    (trial.path / PREVIOUS).unlink()
    reports = trial.run()
    assert [report.metrics["epoch"] for report in reports] == [4, 5]
    assert reports[0].notice is None
    assert trial.results() == whole.results()


def test_what_a_killed_process_had_begun_to_write_is_removed(make_trial: Callable[..., Trial]) -> None:
    trial = make_trial("trial")
    trial.run(until=2)
    (trial.path / "last" / ".checkpoint.safetensors.0123abcd").write_bytes(b"half")
    (trial.path / "best" / ".tmpAbCd12").write_bytes(b"half of safetensors' own")
    trial.run()
    names = {str(path.relative_to(trial.path)) for path in trial.path.rglob("*") if path.is_file()}
    assert names == {LAST, PREVIOUS, BEST, "metrics.jsonl"}


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    damages=st.dictionaries(
        st.sampled_from([LAST, PREVIOUS, BEST]), st.tuples(st.sampled_from([flip_bit, cut]), st.floats(0, 0.999))
    ),
    until=st.integers(1, 5),
)
def test_whatever_is_damaged_the_trial_ends_the_same(
    make_trial: Callable[..., Trial],
    tmp_path_factory: pytest.TempPathFactory,
    damages: dict[str, tuple[Callable[..., None], float]],
    until: int,
) -> None:
    whole, trial = make_trial("w"), make_trial("t")
    if not whole.path.exists():
        whole.run()
    trial.path = tmp_path_factory.mktemp("damaged") / "trial"
    trial.run(until=until)
    for name, (damage, place) in damages.items():
        if (trial.path / name).is_file():
            if damage is flip_bit:
                flip_bit(trial.path / name, place)
            else:
                cut(trial.path / name)
    reports = trial.run(num_reported=until)
    epochs = [int(report.metrics["epoch"]) for report in reports]
    assert epochs == list(range(epochs[0], 6))
    assert epochs[0] <= until
    assert trial.results() == whole.results()
