"""Makes the report's sections that show test images: errors, cells of the confusion matrix, labels, heat maps."""

from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from sklearn.metrics import confusion_matrix

from raysweep.atomic_files import Json
from raysweep.evaluate.picture_sections import show_picture
from raysweep.evaluate.statistics import most_confused
from raysweep.report.section import Section, load_environment, render_table
from raysweep.tasks.classification.evaluated import Evaluated, shorten_name
from raysweep.tasks.classification.examples import ISSUES, NUM_ERRORS

MAX_MATRIX = 30
"""Classes of a matrix that one can click; of more the pairs that are most confused are listed."""
MANY = 30
WEAK = 0.8
"""Below this accuracy what a model suspects says more of the model than of the labels."""
AGAIN = "python -m platform.evaluate RUN"


@cache
def _load_environment() -> Environment:
    return load_environment().overlay(loader=PackageLoader("raysweep.tasks.classification"))


def render_own(template: str, **values: Any) -> Markup:
    """Fills one of the templates of this task."""
    return Markup(_load_environment().get_template(template).render(**values))


def render_gallery(images: list[Json]) -> Markup:
    """Renders images side by side with what was said of them."""
    return render_own("gallery.html", images=images)


def build_matrix(found: Evaluated) -> Section:
    """Builds the confusion matrix, whose cells show images; of many classes what was most confused."""
    classes = found.classes
    matrix = confusion_matrix(found.number("true"), found.number("predicted"), labels=range(len(classes)))
    if len(classes) > MAX_MATRIX:
        pairs = most_confused(matrix, classes, most=MANY)
        columns = {"true class": "", "called": "", "images": ",d", "share of the class": ".1%"}
        html = render_table(columns, pairs.to_numpy().tolist(), "The pairs most confused")
        if (found.folder / "confusion_matrix.png").is_file():
            html += show_picture(found.folder / "confusion_matrix.png", "Confusion matrix")
        how = "Each line is a true class and what it was taken for; all classes are in the picture below."
        return Section(title="What is taken for what", how_to_read=how, html=html)
    num_true = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = np.sqrt(matrix / num_true)  # a confusion of 5 % is seen as such beside a diagonal of 90 %
    cells = [
        [{"count": int(count), "share": float(share)} for count, share in zip(*rows, strict=True)]
        for rows in zip(matrix, shares, strict=True)
    ]
    kept = found.list_kept()
    how = "Blue is what is right, orange what is confused; "
    how += "a click on a number shows images of it." if kept else "a row adds up to the images of its class."
    html = render_own("matrix.html", classes=classes, cells=cells, images=kept)
    return Section(title="What is taken for what", how_to_read=how, html=html)


def build_errors(found: Evaluated) -> Section | None:
    """Builds the worst errors as images; of runs from before they were kept as a table."""
    title = "Worst errors first"
    if worst := found.find(found.examples.get("worst", [])):
        how = "The errors whose true class was given the lowest probability: a wrong label, or what is not learnt yet."
        return Section(title=title, how_to_read=how, html=render_gallery(worst))
    table = found.table
    wrong = table[table["true"] != table["predicted"]].sort_values("confidence", ascending=False)[:NUM_ERRORS]
    if wrong.empty:
        return None
    columns = {"image": "", "true class": "", "called": "", "confidence": ".1%"}
    wrong = wrong.assign(image=wrong["image"].map(shorten_name))
    rows = wrong[["image", "true", "predicted", "confidence"]].to_numpy().tolist()
    how = f"The errors that the model was surest of; {AGAIN} keeps their images, too."
    return Section(title=title, how_to_read=how, html=render_table(columns, rows, "Errors, the surest first"))


def build_issues(found: Evaluated) -> Section | None:
    """Builds the images whose label is suspected."""
    if not found.examples:
        return None
    issues = found.examples["label_issues"]
    how = "Labels of the test images that are probably wrong, by confident learning: look at each before you change it."
    if issues is None:
        text = Markup(
            "<p>Not looked for, as cleanlab is not installed: <code>pip install 'raysweep[report]'</code>, then "
            "<code>{}</code>, which counts as another opening of the test split.</p>"
        ).format(AGAIN)
        return Section(title="Suspected label errors", how_to_read=how, html=text)
    text = Markup(
        "<p>{} of {} test images (Northcutt et al. 2021, by cleanlab), the most suspect first; all of them, with "
        "their paths, are in <code>test/{}</code>.</p>"
    ).format(issues["num_found"], len(found.table), ISSUES)
    if not issues["rows"]:
        text = Markup("<p>None found (Northcutt et al. 2021, by cleanlab).</p>")
    elif (accuracy := (found.table["true"] == found.table["predicted"]).mean()) < WEAK:
        text += Markup(
            '<p class="note">The model is right on {:.1%} only: most of these are its own errors.</p>'
        ).format(accuracy)
    return Section(
        title="Suspected label errors", how_to_read=how, html=text + render_gallery(found.find(issues["rows"]))
    )


def build_heat_maps(found: Evaluated) -> Section | None:
    """Builds images with heat maps of what spoke for a class."""
    maps = found.examples.get("heat_maps", [])
    images = [
        {**image, "maps": [entry for entry in maps if entry["row"] == image["row"]]}
        for image in found.find(list(dict.fromkeys(entry["row"] for entry in maps)))
    ]
    if not images:
        return None
    return Section(
        title="Where the model looks",
        how_to_read="Warm is what spoke for the class (HiResCAM, Draelos and Carin 2020): on the object is as it "
        "should be, on the background it is a shortcut; of errors there is a map for either class.",
        html=render_own("heat_maps.html", images=images),
    )
