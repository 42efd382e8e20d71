"""TensorBoard's event files, read back by TensorBoard itself: scalars, points for HParams, text and pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from raysweep.search.results import Results
from raysweep.tracking.backend import TrackedRun
from raysweep.tracking.tensorboard_events import TensorboardEvents
from raysweep.tracking.tracker import Tracker
from raysweep.trial_result import TrialResult

Build = Callable[[Path], TrackedRun]
Train = Callable[..., TrialResult]


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def read_points(events: EventAccumulator) -> dict[str, Any]:
    """What HParams has of a trial: `_hparams_/experiment` and the like."""
    contents = events.summary_metadata
    return {
        tag: HParamsPluginData.FromString(each.plugin_data.content)
        for tag, each in contents.items()
        if each.plugin_data.plugin_name == "hparams"
    }


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    tracked_run: Build,
    train: Train,
    finish: Callable[[Tracker, list[TrialResult]], Results],
) -> Path:
    """A search whose second trial was stopped after two epochs, and went on to its fourth."""
    run = tmp_path_factory.mktemp("run")
    (run / "test").mkdir()
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(run / "test" / "curves.png")
    before = Tracker(TensorboardEvents(tracked_run(run)))
    first = train(before, 0)
    train(before, 1, ends=False)
    before.close()
    after = Tracker(TensorboardEvents(tracked_run(run)), [first])
    finish(after, [first, train(after, 1, epochs=(3, 4))])
    assert (before.backend.problem, after.backend.problem) == (None, None)
    return run / "tensorboard"


@pytest.mark.parametrize(("name", "epochs"), [("0000", [1, 2]), ("0001", [1, 2, 3, 4])])
def test_each_epoch_of_a_trial_stands_once_at_its_step(name: str, epochs: list[int], folder: Path) -> None:
    scalars = read(folder / name).Scalars("val/accuracy")
    assert [event.step for event in scalars] == epochs
    assert [event.value for event in scalars] == pytest.approx([epoch / 10 for epoch in epochs])


def test_hparams_have_the_point_and_the_best_value(folder: Path) -> None:
    events = read(folder / "0001")
    points = read_points(events)
    start = points["_hparams_/session_start_info"].session_start_info
    assert start.hparams["task.learning_rate"].number_value == pytest.approx(0.1)
    metrics = [info.name.tag for info in points["_hparams_/experiment"].experiment.metric_infos]
    assert metrics == ["val/accuracy", "hparam/best_value"]
    assert "_hparams_/session_end_info" in points
    assert events.Scalars("hparam/best_value")[0].value == pytest.approx(0.4)


def test_the_study_has_progress_figures_texts_and_pictures(folder: Path) -> None:
    events = read(folder / "study")
    assert [(event.step, event.value) for event in events.Scalars("best/trial")] == [(1, 0), (2, 1)]
    assert events.Scalars("test/accuracy")[0].value == 0.5
    (picture,) = events.Images("test/curves")
    assert (picture.width, picture.height) == (6, 4)
    text = events.Tensors("test/report/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "precision 0.5" in text


def test_the_command_that_shows_them_is_said_at_the_end(
    tmp_path: Path,
    tracked_run: Build,
    train: Train,
    finish: Callable[[Tracker, list[TrialResult]], Results],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker = Tracker(TensorboardEvents(tracked_run(tmp_path / "my run")))
    finish(tracker, [train(tracker, 0)])
    assert capsys.readouterr().err == f"TensorBoard: tensorboard --logdir '{tmp_path}/my run/tensorboard'\n"
