"""How well a detector tells test images from what is none of the classes: text, JSON and a figure."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import roc_curve

from raysweep import atomic_files
from raysweep.atomic_files import Json
from raysweep.data.idx import DIGITS, find_idx_file, load_idx
from raysweep.data.images import ImageSet, space_evenly
from raysweep.evaluate.stored_model import StoredModel, describe_model
from raysweep.tasks.classification.rejection.detector import BLOCK, KEPT, Detector, Scored, measure_auroc
from raysweep.tasks.classification.rejection.features import Features, extract_from_pixels
from raysweep.tasks.classification.rejection.figure import save_score_histograms
from raysweep.tasks.classification.rejection.logits import MaximumSoftmax
from raysweep.tasks.classification.rejection.outliers import NOISE, draw_blank, resize_grey

REPORT = "rejection_report.txt"
DIGIT_IMAGES = "t10k-images-idx3-ubyte"
MAX_DIGITS, MAX_NOISE = 2000, 2000


def evaluate_rejection(
    model: StoredModel,
    detector: Detector,
    test: ImageSet,
    folder: Path,
    note: str,
    *,
    scored: Scored,
    predicted: npt.NDArray[np.int64],
    digits: Path | None,
    seed: int = 0,
) -> Json:
    """Compares the test images with sets of outliers that no choice has seen; writes report and figure to `folder`.

    `scored` are the test images as the detector sees them; `predicted` (N,) are the labels that the classification
    gave them; `digits` is a folder with MNIST's idx files, or None where there is none. Returns the figures for
    results.json.
    """
    labels = scored.logits.argmax(dim=1).numpy()
    outliers, missing = _extract_outliers(model, test, digits, seed)
    scores = {name: detector.score_features(values) for name, values in outliers.items()}
    real, softmax = scored.scores, MaximumSoftmax()
    real_softmax = softmax.score_logits(scored.logits)
    accepted = detector.accepts(real).numpy()
    right = predicted == test.labels
    figures = {
        "score": detector.name,
        "threshold": detector.threshold,
        "num_images": len(test),
        "accepted": {
            "share": float(accepted.mean()),
            "accuracy": float(right[accepted].mean()) if accepted.any() else None,
            "accuracy_of_all": float(right.mean()),
            "labels_changed": int((labels != predicted)[accepted].sum()),
        },
        "sets": {
            name: {
                "num_images": len(values),
                **measure_separation(real, scores[name]),
                "rejected": float((~detector.accepts(scores[name])).double().mean()),
                "softmax": measure_separation(real_softmax, softmax.score(values)),
            }
            for name, values in outliers.items()
        },
        "missing": missing,
        "fitted": detector.facts,
    }
    title = describe_model(model)
    atomic_files.write_text(folder / REPORT, _write_report(figures, title, note))
    atomic_files.write_json(folder / "rejection_report.json", {"note": note, **figures})
    save_score_histograms(
        folder / "rejection.png",
        real.numpy(),
        {name: values.numpy() for name, values in scores.items()},
        detector.threshold,
        score=detector.name,
        title=f"Rejection of what is none of the classes, {title}",
        note=note,
    )
    return {**figures, "report": REPORT, "headline": _write_headline(figures)}


def find_digits(data_root: Path | None) -> Path | None:
    """Finds the folder with MNIST's idx files below a data root."""
    folders = [data_root / "mnist"] if data_root else []
    return next((folder for folder in folders if find_idx_file(folder, DIGIT_IMAGES)), None)


def measure_separation(real: torch.Tensor, outliers: torch.Tensor) -> dict[str, float]:
    """Measures `auroc`, and `fpr95`: the share of outliers accepted where 95 % of real images are."""
    is_real = np.concatenate([np.ones(len(real)), np.zeros(len(outliers))])
    false, true, _ = roc_curve(is_real, torch.cat([real, outliers]).numpy(), drop_intermediate=False)
    return {"auroc": measure_auroc(real, outliers), "fpr95": float(false[np.argmax(true >= KEPT - 1e-12)])}


def _extract_outliers(
    model: StoredModel, test: ImageSet, digits: Path | None, seed: int
) -> tuple[dict[str, Features], dict[str, str]]:
    """Extracts features of each set of outliers, and why a set could not be had."""
    outliers: dict[str, Features] = {}
    missing: dict[str, str] = {}
    size = model.config.data.decoded_size
    path = find_idx_file(digits, DIGIT_IMAGES) if digits else None
    if set(model.info.classes) == set(DIGITS):
        missing["MNIST digits"] = "digits are the classes of this study"
    elif path is None:
        missing["MNIST digits"] = f"no {DIGIT_IMAGES} " + (
            f"in {digits}" if digits else "was found; RAYSWEEP_DATA may name a folder that has mnist/"
        )
    else:
        images = load_idx(path)
        images = images[space_evenly(len(images), MAX_DIGITS)]
        blocks = (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))
        outliers["MNIST digits"] = extract_from_pixels(
            model, (resize_grey(block, size, model.config.data.channels) for block in blocks)
        )
    for number, (name, make) in enumerate(NOISE.items()):
        draw = np.random.default_rng([seed, 2, number])
        outliers[name] = extract_from_pixels(model, (make(block, draw) for block in _iterate_blocks(test)))
    blank = np.array_split(np.arange(256, dtype=np.uint8), 4)
    shape = (size, size, model.config.data.channels)
    outliers["blank"] = extract_from_pixels(model, (draw_blank(levels, shape) for levels in blank))
    return outliers, missing


def _iterate_blocks(test: ImageSet) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields evenly spaced test images, at most 2,000, block by block."""
    rows = space_evenly(len(test), MAX_NOISE)
    for start in range(0, len(rows), BLOCK):
        yield test.gather(rows[start : start + BLOCK])


def _write_headline(figures: Json) -> str:
    areas = ", ".join(f"{name} {values['auroc']:.4f}" for name, values in figures["sets"].items())
    doubts = "".join(f"; not to be trusted: {doubt}" for doubt in figures["fitted"].get("doubts", []))
    accepted = f"{figures['accepted']['share']:.1%} of test images accepted"
    return f"rejection by {figures['score']}: AUROC {areas}; {accepted}{doubts}"


def _write_report(figures: Json, title: str, note: str) -> str:
    accepted, fitted = figures["accepted"], figures["fitted"]
    of_accepted = "none accepted" if accepted["accuracy"] is None else f"{accepted['accuracy']:.4f}"
    sets = pd.DataFrame(
        {
            name: {
                "images": f"{values['num_images']}",
                "AUROC": f"{values['auroc']:.4f}",
                "FPR at 95 %": f"{values['fpr95']:.4f}",
                "rejected": f"{values['rejected']:.1%}",
                "softmax AUROC": f"{values['softmax']['auroc']:.4f}",
                "softmax FPR at 95 %": f"{values['softmax']['fpr95']:.4f}",
            }
            for name, values in figures["sets"].items()
        }
    ).T
    candidates = pd.DataFrame(fitted["synthetic"])
    lines = [
        f"{title}: what is none of the classes, by {figures['score']}",
        *([note] if note else []),
        "",
        f"Threshold {figures['threshold']:.6g}: it keeps {fitted['kept_val']:.2%} of {fitted['num_val']} "
        "validation images.",
        *(f"Not to be trusted: {doubt}." for doubt in fitted.get("doubts", [])),
        f"Accepted: {accepted['share']:.2%} of {figures['num_images']} test images; accuracy {of_accepted}, "
        f"{accepted['accuracy_of_all']:.4f} on all; labels changed: {accepted['labels_changed']}.",
        "",
        "Against test images (softmax: the largest softmax probability of the same checkpoint):",
        sets.to_string(),
        *(f"{name}: not measured, {reason}" for name, reason in figures["missing"].items()),
        "",
        "AUROC of the candidates on outliers made from validation images, on which the score was chosen:",
        candidates.to_string(float_format="{:.4f}".format),
    ]
    return "\n".join(lines) + "\n"
