"""A classifier on the test images: reports, figures, and the lift over the baseline."""

import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import confusion_matrix

from raysweep import atomic_files
from raysweep.atomic_files import Json
from raysweep.data.batches import Worker, iterate_evaluation
from raysweep.data.images import ImageSet
from raysweep.evaluate.calibration import NUM_BINS, measure_calibration
from raysweep.evaluate.figures.classification import save_confusion_matrix, save_predictions
from raysweep.evaluate.figures.curves import save_curves
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.seeds import measure_seeds
from raysweep.evaluate.statistics import (
    ClassReport,
    describe_confusions,
    describe_lift,
    mean_class_accuracy,
    most_confused,
    paired_bootstrap,
    report_classes,
)
from raysweep.evaluate.stored_model import StoredModel, describe_model
from raysweep.tasks.classification.examples import Predictions, choose_examples, save_examples
from raysweep.tasks.classification.heat_map_pictures import draw_heat_maps
from raysweep.tasks.classification.rejection.detector import ensure_detector
from raysweep.tasks.classification.rejection.report import evaluate_rejection, find_digits
from raysweep.tasks.classification.task import ClassificationTask

GRID_IMAGES = 16
REPORT = "classification_report.txt"


def evaluate(run: FinalRun) -> Json:
    """Evaluates the best model and, beside it, the baseline's; see FinalRun."""
    best, images, note = run.best, run.test, run.note
    with run.part("detector of what is none of the classes"):
        detector = ensure_detector(run.run_folder.best.detector, best, run.data)
    with run.part("test images"):
        scored = detector.score_set(best, images)
        predictions = Predictions(
            labels=images.labels,
            probabilities=scored.logits.double().softmax(dim=1).numpy(),
            accepted=detector.accepts(scored.scores).numpy(),
            scores=scored.scores.numpy(),
        )
        predicted = predictions.predicted
    with run.part("baseline"):
        baseline = _evaluate_baseline(run, predictions)
    seeds = measure_seeds(run, "accuracy", partial(_measure_accuracy, images=images))
    with run.part("reports and figures"):
        scores, confused = _report(run, predictions, baseline)
    with run.part("examples for the report"):
        _keep_examples(run, predictions)
    with run.part("rejection"):
        rejection = evaluate_rejection(
            best,
            detector,
            images,
            run.folder,
            note,
            scored=scored,
            predicted=predicted,
            digits=find_digits(run.data_root),
        )
    return {
        **scores,
        "num_images": len(images),
        "report": REPORT,
        "headline": f"test accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f}, "
        f"{len(images)} images of {best.info.source}; baseline: {baseline.headline}\n" + rejection["headline"],
        "baseline": baseline.scores,
        "lift": baseline.lift,
        "seeds": seeds,
        "rejection": rejection,
        "most_confused": confused.to_dict(orient="records"),
    }


def _report(run: FinalRun, predictions: Predictions, baseline: "_Baseline") -> tuple[dict[str, float], pd.DataFrame]:
    """Writes texts and figures of the best model; returns its scores and the classes most confused."""
    best, images, classes, note = run.best, run.test, run.best.info.classes, run.note
    predicted = predictions.predicted
    matrix = confusion_matrix(images.labels, predicted, labels=range(len(classes)))
    confused = most_confused(matrix, classes)

    report = report_classes(images.labels, predicted, classes)
    scores = _summarise(images.labels, predictions.probabilities, report)
    title = describe_model(best)
    lines = [
        f"{title}: {len(images)} test images, accuracy {scores['accuracy']:.4f}",
        baseline.lift["text"],
        f"expected calibration error {scores['calibration_error']:.4f} ({NUM_BINS} bins, Guo et al. 2017)",
        *([note] if note else []),
        "",
        report.text,
        describe_confusions(confused),
    ]
    atomic_files.write_text(run.folder / REPORT, "\n".join(lines) + "\n")
    atomic_files.write_json(
        run.folder / "classification_report.json",
        {"note": note, "report": report.values},
    )
    _write_predictions(run.folder, images, predictions, baseline, classes)
    _draw(run, matrix, predictions)
    return scores, confused


@dataclass(frozen=True, kw_only=True, slots=True)
class _Baseline:
    """The baseline on the test images, beside the best model."""

    scores: dict[str, float] | None
    """None: it failed."""
    lift: Json
    headline: str
    predicted: npt.NDArray[np.int64] | None = None
    """Its classes (N,), where it is another model than the best one."""


def _evaluate_baseline(run: FinalRun, predictions: Predictions) -> _Baseline:
    """Compares the baseline with what the best model says, and writes its report."""
    labels, predicted = run.test.labels, predictions.predicted
    head = [f"baseline, {run.describe_baseline()}", *([run.note] if run.note else [])]
    path = run.folder / "baseline_classification_report.txt"
    if run.baseline is None:
        atomic_files.write_text(path, "\n".join(head) + "\n")
        return _Baseline(scores=None, lift={"text": run.explain_no_lift()}, headline="failed")
    rival = run.rival
    probabilities = predictions.probabilities if rival is None else predict_probabilities(rival, run.test)
    own = probabilities.argmax(axis=1)
    report = report_classes(labels, own, run.best.info.classes)
    atomic_files.write_text(path, "\n".join([*head, "", report.text]))
    lift = paired_bootstrap(predicted == labels, own == labels)
    text = run.explain_no_lift() if rival is None else describe_lift(lift)
    scores = _summarise(labels, probabilities, report)
    return _Baseline(
        scores=scores,
        lift={**asdict(lift), "includes_zero": lift.includes_zero, "text": text},
        headline=f"test accuracy {scores['accuracy']:.4f}",
        predicted=None if rival is None else own,
    )


def _draw(run: FinalRun, matrix: npt.NDArray[np.int64], predictions: Predictions) -> None:
    """Draws the figures of the best model."""
    classes, title = run.best.info.classes, f"Test images, {describe_model(run.best)}"
    save_confusion_matrix(run.folder / "confusion_matrix.png", matrix, classes, title=title, note=run.note)
    rows = np.sort(np.random.default_rng(0).permutation(len(run.test))[:GRID_IMAGES])
    save_predictions(
        run.folder / "predictions.png",
        run.test.gather(rows),
        [classes[label] for label in run.test.labels[rows]],
        [classes[label] for label in predictions.predicted[rows]],
        [float(value) for value in predictions.confidence[rows]],
        title=title,
        note=run.note,
    )
    if run.histories:
        save_curves(
            run.folder / "curves.png",
            run.histories,
            metrics=["val/accuracy", "val/loss"],
            title="Training and validation",
            note=run.note,
        )


def predict_probabilities(model: StoredModel, images: ImageSet) -> npt.NDArray[np.float64]:
    """Returns softmax probabilities (N, C) of all images in order."""
    assert isinstance(model.task, ClassificationTask)
    network = model.modules["model"]
    device = next(network.parameters()).device
    batches = iterate_evaluation(
        images,
        model.config.data,
        batch_size=model.config.training.eval_batch_size,
        worker=Worker(device=device),
    )
    logits = [model.task.infer(network, batch.images).double().softmax(dim=1).cpu() for batch in batches]
    return np.asarray(torch.cat(logits).numpy())


def _measure_accuracy(model: StoredModel, images: ImageSet) -> float:
    return float((predict_probabilities(model, images).argmax(axis=1) == images.labels).mean())


def _keep_examples(run: FinalRun, predictions: Predictions) -> None:
    """Keeps test images for the report; where that fails, the evaluation is as good without them."""
    try:
        choice = choose_examples(predictions)
        heat_maps = draw_heat_maps(run.best, run.test, predictions, choice.looked_into)
        save_examples(run.folder, run.test, run.best.info.classes, predictions, choice, heat_maps)
    except Exception as error:
        print(f"warning: the report will show no test images: {type(error).__name__}: {error}", file=sys.stderr)


def _summarise(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], report: ClassReport
) -> dict[str, float]:
    predicted = probabilities.argmax(axis=1)
    right = labels == predicted
    return {
        "accuracy": float(right.mean()),
        "mean_class_accuracy": mean_class_accuracy(confusion_matrix(labels, predicted)),
        "macro_f1": float(report.values["macro avg"]["f1-score"]),
        "weighted_f1": float(report.values["weighted avg"]["f1-score"]),
        "calibration_error": measure_calibration(probabilities.max(axis=1), right).error,
    }


def _write_predictions(
    folder: Path, images: ImageSet, predictions: Predictions, baseline: _Baseline, classes: tuple[str, ...]
) -> None:
    """Writes what is said of each image as a table, and all probabilities (N, C) float16 in the same order."""
    frame = pd.DataFrame(
        {
            "image": images.names,
            "true": [classes[label] for label in images.labels],
            "predicted": [classes[label] for label in predictions.predicted],
            "confidence": predictions.confidence,
            "true_probability": predictions.true_probability,
            "accepted": predictions.accepted,
        }
    )
    if baseline.predicted is not None:
        frame["baseline_predicted"] = [classes[label] for label in baseline.predicted]
    atomic_files.write_text(folder / "predictions.csv", frame.to_csv(index=False, float_format="%.6f"))
    atomic_files.write_atomically(folder / "probabilities.npy", lambda path: _save_array(path, predictions))


def _save_array(path: Path, predictions: Predictions) -> None:
    with path.open("wb") as file:  # given a path, numpy would add an ending to it
        np.save(file, predictions.probabilities.astype(np.float16))
