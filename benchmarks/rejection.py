"""How well classifiers of several sets tell what is none of their classes, after one epoch and after more.

Claim: noise, blank images and shuffled pixels at an AUROC of at least 0.99, images of another set at least 0.90, and
95 % of a set's own test images kept. What chooses the score sees validation images only.
Data: the drawn cars, Fashion-MNIST and MNIST, both also tinted and written as small colour JPEGs, and any folders of
pictures (--folders). Each is an outlier to all others; a set and its JPEGs are not to each other.
Networks are small and learn from 800 images, so that many of them know little: that is what is looked at.

    .venv/bin/python benchmarks/rejection.py --folders FOLDER...      # two folders: 3 min on 2 quiet cores
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _rejection_sets import Kind, Pixels, Prepared, convert, prepare, train
from _report import Interval, finish

from raysweep.data.images import space_evenly
from raysweep.data.records import Split
from raysweep.evaluate.stored_model import StoredModel
from raysweep.tasks.classification.rejection.detector import Detector, fit_detector, measure_auroc
from raysweep.tasks.classification.rejection.features import extract_from_pixels
from raysweep.tasks.classification.rejection.outliers import NOISE, draw_blank

KINDS = {
    "Fashion-MNIST": Kind("fashion-mnist", 28, 1, "fashion_cnn"),
    "MNIST": Kind("mnist", 28, 1, "fashion_cnn"),
    "cars": Kind("sample", 64, 3, "lcnet_050"),
    "Fashion-MNIST as JPEGs": Kind("fashion-mnist", 32, 3, "fashion_cnn", as_jpegs=True),
    "MNIST as JPEGs": Kind("mnist", 32, 3, "fashion_cnn", as_jpegs=True),
}
SIZES: dict[Split, int] = {"train": 800, "val": 200, "test": 200}
LEAST_NOISE, LEAST_OTHER, KEPT = 0.99, 0.90, 0.95


def make_outliers(name: str, sets: dict[str, Prepared]) -> Iterator[tuple[str, bool, Pixels]]:
    """Yields for one set each kind of outlier: its name, whether it is of another set, and its images."""
    test = _all_test_images(sets[name])
    for noise, make in NOISE.items():
        yield noise, False, make(test, np.random.default_rng(2))
    yield "blank", False, draw_blank(np.arange(256, dtype=np.uint8), test.shape[1:])
    for other, prepared in sets.items():
        if prepared.kind.source != sets[name].kind.source:
            yield other, True, convert(_all_test_images(prepared), sets[name].kind)


def measure(
    model: StoredModel, detector: Detector, test: Pixels, name: str, sets: dict[str, Prepared]
) -> dict[str, float | str]:
    """Measures one detector: the share of test images kept, and its AUROC against each kind of outlier."""
    features = extract_from_pixels(model, [test])
    real = detector.score_features(features)
    right = features.logits.argmax(dim=1).numpy() == sets[name].test.labels
    row: dict[str, float | str] = {
        "accuracy": float(right.mean()),
        "kept": float(detector.accepts(real).double().mean()),
    }
    noise: dict[str, float] = {}
    others: dict[str, float] = {}
    for kind, is_other, pixels in make_outliers(name, sets):
        scores = detector.score_features(extract_from_pixels(model, [pixels]))
        (others if is_other else noise)[kind] = measure_auroc(real, scores)
    table = detector.facts["synthetic"][detector.name]
    worst = min(others, key=others.__getitem__)
    return {
        **row, **noise, "another set, worst": others[worst], "which": worst, "score": detector.name,
        "synthetic, mean": table["mean"], "doubts": len(detector.doubts),
    }  # fmt: skip


def _all_test_images(prepared: Prepared) -> Pixels:
    return prepared.test.gather(space_evenly(len(prepared.test), len(prepared.test)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=Path, nargs="+", default=(), help="of pictures, each with a folder a class")
    parser.add_argument("--epochs", type=int, nargs="+", default=(1, 8), help="when to look; default 1 8")
    args = parser.parse_args()
    names = [path.resolve().name for path in args.folders]
    if len({*names, *KINDS}) < len(names) + len(KINDS):
        parser.error(f"folders must have names of their own, other than {', '.join(KINDS)}; got {', '.join(names)}")
    kinds = {path.resolve().name: Kind(str(path), 64, 3, "lcnet_050") for path in args.folders} | KINDS
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    root = os.environ.get("RAYSWEEP_DATA")
    folder = Path(tempfile.mkdtemp(prefix="raysweep-bench-rejection-"))
    rows: dict[str, dict[str, float | str]] = {}
    try:
        sets = {
            name: prepare(kind, folder / name, folder, Path(root) if root else None, SIZES)
            for name, kind in kinds.items()
        }
        for name, prepared in sets.items():
            for epoch, model in train(prepared, tuple(args.epochs)):
                began = time.process_time()
                detector = fit_detector(model, prepared.data)
                fit_s = time.process_time() - began
                rows[f"{name}, {epoch}"] = {
                    **measure(model, detector, _all_test_images(prepared), name, sets),
                    "fit, CPU s": fit_s,
                }
                print(f"{name}, {epoch}: {rows[f'{name}, {epoch}']}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = pd.DataFrame(rows).T
    print(table.to_string(float_format="{:.3f}".format))
    noise = table[[*NOISE, "blank"]].astype(float)
    other = table["another set, worst"].astype(float)
    missed = [*table.index[noise.min(axis=1) < LEAST_NOISE], *table.index[other < LEAST_OTHER]]
    print("missed: " + ("; ".join(dict.fromkeys(missed)) or "none"))
    finish(
        "rejection",
        ratios={
            "noise, worst": _as_interval(noise.min(axis=1)),
            "another set, worst": _as_interval(other),
            "kept": _as_interval(table["kept"].astype(float)),
        },
        n=len(table),
        values={"rows": rows},
    )


def _as_interval(values: "pd.Series[float]") -> Interval:
    """The median with the range, not an interval of it: what counts is the smallest."""
    return Interval(float(values.median()), float(values.min()), float(values.max()))


if __name__ == "__main__":
    main()
