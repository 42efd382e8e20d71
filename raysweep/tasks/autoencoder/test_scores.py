"""Keeps and reads the error of an autoencoder on each test image."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysweep import atomic_files, file_guard
from raysweep.evaluate.test_scores import TestScores
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results

FILE = "reconstruction_errors.json"
WRITE_AGAIN = "`raysweep evaluate RUN` writes it again"


def save_errors(folder: Path, errors: npt.NDArray[np.float64]) -> None:
    """Keeps the squared error per pixel of each test image, (N,), in the folder of the final evaluation."""
    atomic_files.write_json(folder / FILE, {"mse": [float(f"{error:.7g}") for error in errors]}, checksum=True)


def load_test_scores(folder: RunFolder, results: Results) -> TestScores:
    """Loads the squared error per pixel of each test image.

    Raises:
        CorruptFileError: the file of errors is damaged.
    """
    path, value = folder.test / FILE, float(results.test.mse)
    if not path.is_file():
        note = f"{folder.path.name} has no errors of each image, as an earlier version evaluated it: {WRITE_AGAIN}"
        return TestScores(metric="mse", direction="minimize", value=value, note=note)
    errors = file_guard.read_json(path, "the errors of test images", WRITE_AGAIN, lambda values: values["mse"])
    with file_guard.guard(path, "the errors of test images", WRITE_AGAIN):
        by_image = np.array(errors, dtype=np.float64)
        if by_image.shape != (results.test.num_images,):
            raise ValueError(f"{by_image.shape} errors where results.json has {results.test.num_images} images")
    return TestScores(metric="mse", direction="minimize", value=value, by_image=by_image)
