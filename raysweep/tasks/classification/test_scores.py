"""Reads how a classifier did on each test image, from what its final evaluation has left."""

import csv
import io

import numpy as np

from raysweep import file_guard
from raysweep.evaluate.test_scores import TestScores
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results

WRITE_AGAIN = "`raysweep evaluate RUN` writes it again"


def load_test_scores(folder: RunFolder, results: Results) -> TestScores:
    """Loads the accuracy, 1 for each image that was labelled right and 0 for the others.

    Raises:
        CorruptFileError: predictions.csv is damaged.
    """
    path = folder.test / "predictions.csv"
    text = file_guard.read_text(path, "the predictions of test images", WRITE_AGAIN)
    with file_guard.guard(path, "the predictions of test images", WRITE_AGAIN):
        rows = csv.DictReader(io.StringIO(text))
        right = np.array([row["true"] == row["predicted"] for row in rows], dtype=np.float64)
        if len(right) != results.test.num_images:
            raise ValueError(f"{len(right)} images where results.json has {results.test.num_images}")
    return TestScores(metric="accuracy", direction="maximize", value=float(right.mean()), by_image=right)
