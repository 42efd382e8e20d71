"""Reads how far a generator's images are from the test images."""

from raysweep.evaluate.test_scores import TestScores
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results


def load_test_scores(folder: RunFolder, results: Results) -> TestScores:
    """Loads the Frechet distance, which is of all images together, and the network by whose features it is one."""
    return TestScores(
        metric="frechet_distance",
        direction="minimize",
        value=float(results.test.frechet_distance),
        instrument=str(results.test.judge["digest"]),
        note="a Frechet distance is of all images together: what each image adds to it is not known, so that there is "
        "no interval",
    )
