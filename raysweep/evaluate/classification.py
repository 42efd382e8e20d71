"""A classifier on the test images: reports, figures, and the lift over the baseline."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import classification_report, confusion_matrix

from raysweep import files
from raysweep.data.batches import Worker, iterate_evaluation
from raysweep.data.images import ImageSet
from raysweep.evaluate import figures
from raysweep.evaluate.statistics import describe_lift, mean_class_accuracy, most_confused, paired_bootstrap
from raysweep.evaluate.stored import StoredModel
from raysweep.tasks.classification import ClassificationTask

GRID_IMAGES = 16


def evaluate(
    best: StoredModel,
    baseline: StoredModel,
    images: ImageSet,
    folder: Path,
    *,
    histories: Mapping[str, list[dict[str, float]]],
    note: str,
) -> dict[str, Any]:
    """Evaluates the best model and, beside it, the baseline's; writes everything to `folder`.

    `note` stands at the foot of every text and figure. Returns the figures for results.json.
    """
    classes = best.info.classes
    probabilities = predict_probabilities(best, images)
    predicted = probabilities.argmax(axis=1)
    same = best.number == baseline.number
    baseline_predicted = predicted if same else predict_probabilities(baseline, images).argmax(axis=1)
    lift = paired_bootstrap(predicted == images.labels, baseline_predicted == images.labels)
    matrix = confusion_matrix(images.labels, predicted, labels=range(len(classes)))
    confused = most_confused(matrix, classes)

    figures_of_best = _summarise(images.labels, predicted, classes)
    title = f"trial {best.number}, epoch {best.facts['epoch']}"
    lift_text = (
        f"the best trial is the baseline: no lift (n = {len(images)} test images)" if same else describe_lift(lift)
    )
    lines = [
        f"{title}: {len(images)} test images, accuracy {figures_of_best['accuracy']:.4f}",
        lift_text,
        *([note] if note else []),
        "",
        _report_text(images.labels, predicted, classes),
        "Most confused:",
        confused.to_string(index=False) if len(confused) else "nothing: no image was misclassified",
    ]
    files.write_text(folder / "classification_report.txt", "\n".join(lines) + "\n")
    files.write_json(
        folder / "classification_report.json",
        {
            "note": note,
            "report": classification_report(
                images.labels,
                predicted,
                labels=range(len(classes)),
                target_names=classes,
                output_dict=True,
                zero_division=0,
            ),
        },
    )
    baseline_title = f"baseline, trial {baseline.number}, epoch {baseline.facts['epoch']}"
    files.write_text(
        folder / "baseline_classification_report.txt",
        "\n".join(
            [
                baseline_title,
                *([note] if note else []),
                "",
                _report_text(images.labels, baseline_predicted, classes),
            ]
        ),
    )
    _write_predictions(folder, images, probabilities, classes)
    figures.save_confusion_matrix(
        folder / "confusion_matrix.png", matrix, classes, title=f"Test images, {title}", note=note
    )
    rows = np.sort(np.random.default_rng(0).permutation(len(images))[:GRID_IMAGES])
    figures.save_predictions(
        folder / "predictions.png",
        images.gather(rows),
        [classes[label] for label in images.labels[rows]],
        [classes[label] for label in predicted[rows]],
        [float(value) for value in probabilities[rows].max(axis=1)],
        title=f"Test images, {title}",
        note=note,
    )
    figures.save_curves(
        folder / "curves.png",
        histories,
        metrics=["val/accuracy", "val/loss"],
        title="Training and validation",
        note=note,
    )
    return {
        **figures_of_best,
        "num_images": len(images),
        "baseline": _summarise(images.labels, baseline_predicted, classes),
        "lift": {**asdict(lift), "includes_zero": lift.includes_zero, "text": lift_text},
        "most_confused": confused.to_dict(orient="records"),
    }


def predict_probabilities(model: StoredModel, images: ImageSet) -> npt.NDArray[np.float64]:
    """Softmax probabilities (N, C) of all images in order."""
    assert isinstance(model.task, ClassificationTask)
    network = model.modules["model"]
    device = next(network.parameters()).device
    batches = iterate_evaluation(
        images,
        model.config.data,
        batch_size=model.config.training.eval_batch_size,
        worker=Worker(device=device),
    )
    logits = [model.task.predict(network, batch.images).double().softmax(dim=1).cpu() for batch in batches]
    return np.asarray(torch.cat(logits).numpy())


def _summarise(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, float]:
    report = classification_report(
        labels, predicted, labels=range(len(classes)), target_names=classes, output_dict=True, zero_division=0
    )
    return {
        "accuracy": float((labels == predicted).mean()),
        "mean_class_accuracy": mean_class_accuracy(confusion_matrix(labels, predicted, labels=range(len(classes)))),
        "macro_f1": float(report["macro avg"]["f1-score"]),
        "weighted_f1": float(report["weighted avg"]["f1-score"]),
    }


def _report_text(labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: tuple[str, ...]) -> str:
    return str(
        classification_report(
            labels, predicted, labels=range(len(classes)), target_names=classes, digits=4, zero_division=0
        )
    )


def _write_predictions(
    folder: Path, images: ImageSet, probabilities: npt.NDArray[np.float64], classes: tuple[str, ...]
) -> None:
    frame = pd.DataFrame(
        {
            "image": images.names,
            "true": [classes[label] for label in images.labels],
            "predicted": [classes[label] for label in probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1),
        }
    )
    files.write_text(folder / "predictions.csv", frame.to_csv(index=False, float_format="%.6f"))


EVALUATE = evaluate
