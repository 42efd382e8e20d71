"""Which test images are kept to look at, and which labels are suspected."""

import sys

import numpy as np
import pytest

from raysweep.tasks.classification.examples import (
    NUM_CELL_IMAGES,
    NUM_ERRORS,
    PER_CELL,
    Predictions,
    choose_cells,
    choose_errors,
    choose_examples,
)
from raysweep.tasks.classification.label_issues import find_label_issues


def predict(num_images: int, num_classes: int, seed: int = 0, strength: float = 3.0) -> Predictions:
    """Returns what a fair classifier might say; it refuses every tenth image."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, num_classes, num_images)
    logits = draw.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), labels] += strength
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = draw.normal(size=num_images)
    return Predictions(
        labels=labels, probabilities=probabilities, accepted=np.arange(num_images) % 10 > 0, scores=scores
    )


def test_the_worst_errors_are_those_of_the_highest_loss() -> None:
    predictions = predict(400, 5, strength=1.0)
    worst = choose_errors(predictions)
    wrong = predictions.predicted != predictions.labels
    losses = -np.log(predictions.true_probability)
    assert len(worst) == NUM_ERRORS
    np.testing.assert_allclose(losses[worst], np.sort(losses[wrong])[::-1][:NUM_ERRORS])


def test_each_cell_has_images_and_errors_come_first_where_there_is_no_room() -> None:
    predictions = predict(2000, 4, strength=2.0)
    rows = choose_cells(predictions)
    cells = list(zip(predictions.labels[rows], predictions.predicted[rows], strict=True))
    assert {(a, b) for a in range(4) for b in range(4)} == set(cells)
    assert max(cells.count(cell) for cell in set(cells)) == PER_CELL
    many = predict(5000, 30, strength=0.5)  # more cells than images that are kept
    kept = choose_cells(many)
    assert len(kept) == NUM_CELL_IMAGES
    assert (many.predicted[kept] != many.labels[kept]).all()


def test_a_cell_shows_its_surest_errors_and_its_least_sure_right_ones() -> None:
    predictions = predict(2000, 2, strength=1.0)
    rows = choose_cells(predictions)
    for true, said in ((0, 1), (1, 1)):
        cell = np.flatnonzero((predictions.labels == true) & (predictions.predicted == said))
        shown = predictions.confidence[rows[np.isin(rows, cell)]]
        confidence = np.sort(predictions.confidence[cell])
        expected = confidence[-PER_CELL:] if true != said else confidence[:PER_CELL]
        np.testing.assert_allclose(np.sort(shown), expected)


def test_images_without_errors_and_refusals_can_be_chosen_from() -> None:
    predictions = Predictions(
        labels=np.array([0, 1]), probabilities=np.eye(2), accepted=np.array([True, True]), scores=np.zeros(2)
    )
    choice = choose_examples(predictions)
    assert len(choice.worst) == len(choice.refused) == 0
    assert choice.list_rows().tolist() == [0, 1]


def test_refused_images_come_from_the_least_familiar_on() -> None:
    predictions = predict(60, 3)
    refused = choose_examples(predictions).refused
    assert set(refused) == set(range(0, 60, 10))
    assert (np.diff(predictions.scores[refused]) >= 0).all()


def test_wrong_labels_are_found() -> None:
    predictions = predict(600, 4, strength=8.0)
    planted = np.arange(0, 600, 60)
    labels = predictions.labels.copy()
    labels[planted] = (labels[planted] + 1) % 4
    found = find_label_issues(labels, predictions.probabilities)
    assert found is not None
    assert set(found) == set(planted)


def test_without_cleanlab_nothing_is_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    predictions = predict(60, 3)
    assert find_label_issues(predictions.labels, predictions.probabilities) is None
    assert choose_examples(predictions).label_issues is None
