"""What the report says of failures: of the search's trials, and of finalists that were trained again."""

from raysweep.report.failures import build_failure_sections
from raysweep.report.run_view import load_view
from raysweep.run_folder import RunFolder


def test_failed_trainings_of_finalists_are_told_beside_the_trials(retrained: RunFolder) -> None:
    sections = {section.title: section.html for section in build_failure_sections(load_view(retrained))}
    assert list(sections) == ["Failed trials (1 of 3)", "Failed trainings of finalists (1 of 3)"]
    training = sections["Failed trainings of finalists (1 of 3)"]
    assert "ValueError: it diverged" in training
    assert "1 training: 1" in training
    assert "of the finalist" in training, "its own traceback"
    assert "of the trial" not in training
    assert "1 trial: 2" in sections["Failed trials (1 of 3)"]


def test_what_was_no_longer_asked_for_has_not_failed(retrained: RunFolder) -> None:
    view = load_view(retrained)
    assert view.retraining is not None
    assert [training.number for training in view.ended_trainings] == [0, 1, 2]
    view.retraining.add_trial(view.retraining.trials[1])
    assert [training.number for training in view.ended_trainings] == [0, 1, 2, 4]
