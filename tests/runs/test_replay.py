"""A trial that is trained again from its record: as it was, as long as it was, and compared epoch by epoch."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from raysweep.commands.replay import replay
from raysweep.config import DataConfig, TrainingConfig
from raysweep.data import pipeline
from raysweep.data.sources import load_source
from raysweep.errors import UsageError
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder
from raysweep.runs.replay import Replay, _build_study
from raysweep.runs.sameness import compare_histories
from raysweep.search.strategy.strategy import Strategy
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig
from raysweep.train.checkpoint import load_tensors
from raysweep.train.history import load_history
from raysweep.train.loop import fit
from raysweep.train.report import EpochReport, StopTrial
from raysweep.trial_record import load_trial, save_config
from raysweep.trial_result import TrialResult

BEFORE = [{"epoch": 1.0, "val/loss": 0.5, "train/images_per_s": 9.0}, {"epoch": 2.0, "val/loss": 0.25}]


def change(epoch: int, value: float) -> list[dict[str, float]]:
    return [{**row, "val/loss": value} if row["epoch"] == epoch else row for row in BEFORE]


@pytest.mark.parametrize(
    ("after", "is_same", "says"),
    [
        (BEFORE, True, "the same to the last digit, all metrics in all 2 epochs"),
        ([{**row, "train/images_per_s": 1.0} for row in BEFORE], True, "the same to the last digit"),
        (change(2, 0.25 + 1e-8), True, "the same up to rounding in all 2 epochs; val/loss differs by 1e-08 at most"),
        (change(1, 0.51), False, "not the same: metrics differ from epoch 1 of 2 on; val/loss by 0.01 at most"),
        (change(2, 0.2), False, "differ from epoch 2 of 2 on; val/loss by 0.05 at most"),
        (BEFORE[:1], False, "not the same: 1 epochs, before 2"),
    ],
)
def test_two_trainings_are_the_same_or_differ_from_an_epoch_on(
    after: list[dict[str, float]], is_same: bool, says: str
) -> None:
    found = compare_histories(BEFORE, after)
    assert found.is_same == is_same
    assert says in found.describe("val/loss")


def test_a_replay_proposes_the_recorded_trial_and_stops_where_the_search_did(run: RunFolder) -> None:
    view, record = load_view(run), load_trial(run.trial(7))
    again = Replay(_build_study(view, record), record, stop_after=4)
    assert again.propose() == (7, record.params)
    assert again.propose() is None
    assert again.trial_config(7, {}) == record.config
    assert [again.report(7, epoch, 0.5) for epoch in (1, 2, 3, 4)] == [False, False, False, True]
    result = TrialResult(number=7, state="PRUNED", value=0.5, best_epoch=1, params=record.params, duration_s=1.0)
    again.tell(result)
    assert again.results()[-1].number == 7
    assert not again.has_work()


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    make_idx_folder: Callable[..., Path],
    make_study: Callable[..., Study],
    begin_run: Callable[..., Strategy],
) -> RunFolder:
    """A run with a real trial of two epochs, and one that was stopped after its first, trained in this process."""
    images = make_idx_folder(tmp_path_factory.mktemp("images"))
    study = make_study(
        task=ClassificationConfig(model="fashion_cnn"),
        data=DataConfig(source=str(images), image_size=28, channels=1, normalization="symmetric"),
        training=TrainingConfig(epochs=2, batch_size=16, precision="fp32"),
        space={},
        conditions=(),
        seed=3,
    )
    folder = RunFolder(tmp_path_factory.mktemp("storage") / "run")
    source = load_source(study.data.source, split_seed=0, storage=folder.storage, data_root=None)
    data, _ = pipeline.prepare(source, study.data, folder.cache)
    strategy = begin_run(folder, study, data.info.digest)
    for last in (2, 1):
        proposal = strategy.propose()
        assert proposal is not None
        number, params = proposal
        trial, config = folder.trial(number), strategy.trial_config(number, params)
        save_config(trial.config, number, config, data.info, params)
        reports: list[EpochReport] = []

        def report(epoch: EpochReport, reports: list[EpochReport] = reports, last: int = last) -> None:
            reports.append(epoch)
            if epoch.metrics["epoch"] == last < 2:
                raise StopTrial

        with contextlib.suppress(StopTrial):
            fit(config, data, study.objective, report=report, folder=trial)
        for epoch in reports:
            strategy.report(number, int(epoch.metrics["epoch"]), epoch.value)
        strategy.tell(
            TrialResult(
                number=number,
                state="COMPLETE" if last == 2 else "PRUNED",
                value=reports[-1].best_value,
                best_epoch=reports[-1].best_epoch,
                params=params,
                duration_s=1.0,
            )
        )
    return folder


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local", "one_thread")
def test_trials_come_out_the_same_on_ray_and_another_seed_does_not(trained: RunFolder) -> None:
    before = load_history(trained.trial(0))
    done = CliRunner().invoke(replay, [str(trained.path), "0"])
    assert done.exit_code == 0, done.output
    assert "the same to the last digit, all metrics in all 2 epochs" in done.stdout
    assert load_history(trained.trial(0)) == before
    again = trained.replays.trial(0)
    (tensors, facts), (tensors_before, facts_before) = map(load_tensors, (again.weights, trained.trial(0).weights))
    assert facts == facts_before
    torch.testing.assert_close(tensors, tensors_before, rtol=0, atol=0)
    assert not again.last.exists()

    stopped = CliRunner().invoke(replay, [str(trained.path), "1", "--json"])
    assert stopped.exit_code == 0, stopped.output
    assert '"state": "PRUNED"' in stopped.stdout
    assert len(load_history(trained.replays.trial(1))) == 1

    record = load_trial(trained.trial(0))
    other = trained.trial(1)
    save_config(other.config, 1, record.config, record.info, record.params)  # with the seed of trial 0
    differs = CliRunner().invoke(replay, [str(trained.path), "1"])
    assert differs.exit_code == 1
    assert "not the same: metrics differ from epoch 1 of 1 on" in differs.stdout


def test_a_trial_under_way_is_not_replayed(tmp_path: Path, make_run: Callable[..., RunFolder]) -> None:
    from raysweep.runs.replay import replay_trial
    from raysweep.search.options import RunOptions

    run = make_run(tmp_path / "run", num_trials=2, end="trial")
    options = RunOptions(storage=tmp_path, name="run")
    with pytest.raises(UsageError, match="only a trial that has ended can be compared, got trial 1"):
        replay_trial(load_view(run), 1, options)
    with pytest.raises(UsageError, match="has no trial 5; it has: 0 to 1"):
        replay_trial(load_view(run), 5, options)
