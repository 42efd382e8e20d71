"""Reads what the final evaluation of a classifier has left in `test/`, for the report."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from raysweep import file_guard
from raysweep.atomic_files import Json
from raysweep.config import require
from raysweep.evaluate.test_figures import TestFigures
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.tasks.classification.examples import FILE

REMEDY = "`raysweep evaluate RUN` makes it anew"
COLUMNS = ("image", "true", "predicted", "baseline_predicted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """Holds what the best model said of N test images, and which of them are kept to look at."""

    folder: Path
    figures: TestFigures
    classes: tuple[str, ...]
    table: pd.DataFrame
    """N rows; in runs from before they were kept there is no `accepted`, `true_probability`, `baseline_predicted`."""
    examples: Json
    """Of `save_examples`; empty in runs from before there were any."""

    def number(self, column: str) -> npt.NDArray[np.int64]:
        """Returns the class numbers (N,) of `true`, `predicted` or `baseline_predicted`."""
        return np.asarray(pd.Categorical(self.table[column], categories=list(self.classes)).codes, np.int64)

    def find(self, rows: list[int]) -> list[Json]:
        """Returns the images in these rows that are kept, as the templates show them."""
        kept = {image["row"]: image for image in self.list_kept()}
        return [kept[row] for row in rows if row in kept]

    def list_kept(self) -> list[Json]:
        """Lists all images that are kept, as the templates show them."""
        number = {name: index for index, name in enumerate(self.classes)}
        return [
            {
                **image,
                "cell": f"{number[image['true']]}-{number[image['predicted']]}",
                "name": shorten_name(self.table["image"].iloc[image["row"]]),
            }
            for image in self.examples.get("images", [])
        ]


def shorten_name(name: str) -> str:
    """Returns the end of an image's path, from its folder on: a report may be given to others."""
    return "/".join(PurePath(name).parts[-2:])


def load_evaluated(folder: RunFolder, results: Results) -> Evaluated:
    """Loads what is there.

    Raises:
        CorruptFileError: a file is damaged, or there are no predictions.
    """
    path, classes = folder.test / "predictions.csv", results.data.classes
    with file_guard.guard(path, "the predictions on the test images", REMEDY):
        table = pd.read_csv(path, dtype=dict.fromkeys(COLUMNS, "str"), keep_default_na=False)
        require({"image", "true", "predicted", "confidence"} <= set(table), "columns are missing", list(table))
        named = set(table["true"]) | set(table["predicted"]) | set(table.get("baseline_predicted", ()))
        require(named <= set(classes), "the classes must be the run's", sorted(named - set(classes))[:3])
        require(pd.api.types.is_float_dtype(table["confidence"]), "a confidence is a number", "others")
        require(len(table) == results.test.num_images, "it must have a row for each test image", len(table))

    def check(values: Json) -> Json:
        for image in values["images"]:
            require(0 <= image["row"] < len(table), "images must be those of the predictions", image["row"])
            require({image["true"], image["predicted"]} <= set(classes), "the classes must be the run's", image["row"])
            _check_picture(image)
        for heat_map in values["heat_maps"]:
            _check_picture(heat_map)
        return values

    examples: Json = {}
    if (folder.test / FILE).is_file():
        examples = file_guard.read_json(folder.test / FILE, "the test images of the report", REMEDY, check)
    return Evaluated(folder=folder.test, figures=results.test, classes=classes, table=table, examples=examples)


def _check_picture(values: Json) -> None:
    source: Any = values["picture"]
    require(isinstance(source, str) and source.startswith("data:image/"), "a picture is a data: URI", "another text")
