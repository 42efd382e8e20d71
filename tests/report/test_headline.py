"""The sentence at the top of a report: what was found, with the interval, and how far a run is."""

from collections.abc import Callable
from typing import Any

import pytest

from raysweep.report.headline import build_headline, describe_result
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder
from raysweep.search.finalists.retraining import open_retraining
from raysweep.search.session.identity import load_record
from raysweep.trial_result import TrialResult

LIFT = {"text": "", "difference": 0.3, "low": 0.1, "high": 0.5}
MSE = {"mse": 0.02, "accuracy": 0.5, "baseline": {"mse": 0.05, "accuracy": 0.4}}


def say(record_run: Callable[..., Any], **test: Any) -> str:
    run = record_run("run")
    run.end(run.start())
    run.end(run.start())
    sentence = describe_result(run.finish(**test)).replace("\N{NO-BREAK SPACE}", " ")
    return sentence.removeprefix("On 20 test images the best configuration has ")


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({}, "an accuracy of 90.0 %, the baseline 60.0 %: 30.0 points better (95 % interval 10.0 to 50.0)."),
        (
            {"lift": {**LIFT, "low": -0.02}},
            "an accuracy of 90.0 %, the baseline 60.0 %: no difference that could be told from chance (95 % interval "
            "-2.0 to +50.0 points).",
        ),
        (
            {"accuracy": 0.5, "lift": {**LIFT, "difference": -0.1, "low": -0.2, "high": -0.05}},
            "an accuracy of 50.0 %, the baseline 60.0 %: 10.0 points worse (95 % interval 5.0 to 20.0).",
        ),
        (
            {**MSE, "lift": {"text": "", "difference": -0.03, "low": -0.04, "high": -0.025}},
            "a squared error per pixel of 0.02, the baseline 0.05: 0.03 better (95 % interval 0.025 to 0.04).",
        ),
        (
            {"baseline": None, "baseline_failure": "NaN", "lift": {"text": "none"}},
            "an accuracy of 90.0 %; there is no baseline to compare it with.",
        ),
        ({"lift": {"text": "none"}}, "an accuracy of 90.0 %, the baseline 60.0 %."),
    ],
)
def test_best_and_baseline_are_compared(record_run: Callable[..., Any], test: dict[str, Any], expected: str) -> None:
    assert say(record_run, **test) == expected


def test_figures_of_a_task_that_are_not_known_are_said_in_its_own_words(record_run: Callable[..., Any]) -> None:
    own = {"accuracy": "high", "headline": "it is fine\nand more", "lift": {"text": "by a lot"}}
    assert say(record_run, **own) == "it is fine; by a lot"


def test_finalists_that_are_trained_are_counted(record_run: Callable[..., Any]) -> None:
    run = record_run("finalists")
    run.end(run.start())
    run.end(run.start())
    record = load_record(run.folder)
    assert record is not None
    retraining = open_retraining(run.study, run.folder, record.identity, run.strategy.results(), 2)
    run.folder.finalists.path.mkdir()
    number, params = retraining.propose() or pytest.fail("nothing is proposed")
    result = TrialResult(number=number, state="COMPLETE", value=0.5, best_epoch=1, params=params, duration_s=1.0)
    retraining.report(number, 1, 0.5)
    retraining.tell(result)
    assert "1 of 4 trainings have ended" in " ".join(build_headline(load_view(run.folder)).notes)


def test_a_run_under_way_says_how_far_it_is(under_way: RunFolder) -> None:
    headline = build_headline(load_view(under_way))
    assert headline.sentence.startswith(
        "7 of 12 trials have ended; on validation images the best so far has an accuracy"
    )
    assert "--resume goes on with it" in headline.notes[-1]
