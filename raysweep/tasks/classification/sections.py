"""Makes the report's sections on the test images of a classifier."""

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from raysweep import file_guard
from raysweep.atomic_files import Json
from raysweep.evaluate.calibration import NUM_BINS, measure_calibration
from raysweep.evaluate.figures.canvas import shorten
from raysweep.evaluate.picture_sections import show_picture
from raysweep.evaluate.statistics import report_classes
from raysweep.report.section import Section, render_chart, render_table, render_text
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.tasks.classification.evaluated import REMEDY, Evaluated, load_evaluated
from raysweep.tasks.classification.example_sections import (
    build_errors,
    build_heat_maps,
    build_issues,
    build_matrix,
    render_gallery,
    render_own,
)

MAX_BARS = 40
BASELINE = "baseline_predicted"
GREY = "#8a929c"
SHARE = {"range": [0, 1.01], "dtick": 0.2, "tickformat": ".0%"}


def build_sections(folder: RunFolder, results: Results) -> list[Section]:
    """Builds the sections; of runs from before images were kept those that need none."""
    found = load_evaluated(folder, results)
    reports = {"best": _report(found, "predicted")}
    if BASELINE in found.table:
        reports["baseline"] = _report(found, BASELINE)
    sections = [
        build_scores(found, reports),
        build_bars(found, reports),
        build_matrix(found),
        build_errors(found),
        build_issues(found),
        build_calibration(found),
        build_rejection(found),
        build_heat_maps(found),
    ]
    return [section for section in sections if section is not None]


def _report(found: Evaluated, column: str) -> Json:
    return report_classes(found.number("true"), found.number(column), found.classes).values


def build_scores(found: Evaluated, reports: dict[str, Json]) -> Section:
    """Builds the classification report as a table that sorts."""
    columns = {"class": "", "test images": ",d", "precision": ".3f", "recall": ".3f", "F1": ".3f"}
    if "baseline" in reports:
        columns |= {"baseline's F1": ".3f", "difference": "+.3f"}
    rows = []
    for name in found.classes:
        own = reports["best"][name]
        row = [name, int(own["support"]), own["precision"], own["recall"], own["f1-score"]]
        if "baseline" in reports:
            theirs = reports["baseline"][name]["f1-score"]
            row += [theirs, own["f1-score"] - theirs]
        rows.append(row)
    best = reports["best"]
    text = Markup("<p>Accuracy <b>{:.2%}</b>, macro F1 <b>{:.3f}</b>, {} test images; {}.</p>").format(
        best["accuracy"], best["macro avg"]["f1-score"], len(found.table), found.figures.lift["text"]
    )
    return Section(
        title="Scores of each class",
        how_to_read="Precision is the share of what the model calls the class that is of it, recall the share of the "
        "class's images that it finds, F1 their harmonic mean; a click on a column sorts by it.",
        html=render_own("style.html") + text + render_table(columns, rows, "Test images by class"),
    )


def build_bars(found: Evaluated, reports: dict[str, Json]) -> Section:
    """Builds bars of each class's recall, the hardest class first, beside the baseline's."""
    recall = {name: np.array([report[c]["recall"] for c in found.classes]) for name, report in reports.items()}
    hardest = np.argsort(recall["best"], kind="stable")[:MAX_BARS]
    names = [shorten(found.classes[index], 26) for index in hardest]
    colours = {"best": None, "baseline": GREY}
    bars = [
        go.Bar(
            y=list(range(len(names))),
            x=values[hardest].tolist(),
            name=name,
            orientation="h",
            marker_color=colours[name],
            customdata=[found.classes[index] for index in hardest],
            hovertemplate="%{customdata}: %{x:.1%}",
        )
        for name, values in recall.items()
    ]
    figure = go.Figure(bars)
    figure.update_layout(height=110 + 28 * len(names), bargap=0.25, legend_traceorder="normal")
    figure.update_xaxes(SHARE | {"title": "recognised"})
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed")
    left_out = f", the {MAX_BARS} hardest of {len(found.classes)}" if len(found.classes) > MAX_BARS else ""
    compared = " beside the baseline's" if "baseline" in reports else ""
    return Section(
        title="Class by class",
        how_to_read=f"Each bar is the share of a class's test images that the model recognises{compared}, "
        f"the hardest class on top{left_out}.",
        html=render_chart(figure, f"Recall of each class{compared}"),
    )


def build_calibration(found: Evaluated) -> Section:
    """Builds the reliability diagram over a histogram of confidence."""
    confidence = found.table["confidence"].to_numpy(np.float64)
    right = found.number("true") == found.number("predicted")
    measured = measure_calibration(confidence, right)
    there = measured.counts > 0
    middle = ((np.arange(NUM_BINS) + 0.5) / NUM_BINS)[there]
    counts = measured.counts[there]
    figure = go.Figure(
        [
            go.Bar(
                x=middle, y=measured.accuracy[there], width=0.9 / NUM_BINS, name="accuracy", customdata=counts,
                hovertemplate="%{y:.1%} of %{customdata} images are right",
            ),
            go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="as sure as right", line={"dash": "dot", "color": GREY}),
            go.Bar(x=middle, y=counts, width=0.9 / NUM_BINS, marker_color=GREY, yaxis="y2", showlegend=False,
                   hovertemplate="%{y} images"),
        ]
    )  # fmt: skip
    figure.update_layout(
        height=460,
        xaxis={**SHARE, "title": "confidence", "anchor": "y2"},
        yaxis={**SHARE, "title": "accuracy", "domain": [0.32, 1]},
        yaxis2={"title": "images", "domain": [0, 0.22], "anchor": "x"},
    )
    theirs = (found.figures.baseline or {}).get("calibration_error") if BASELINE in found.table else None
    baseline = "" if theirs is None else f" (baseline {theirs:.2%})"
    leaning = "less" if confidence.mean() > right.mean() else "more"
    text = (
        f"Expected calibration error {measured.error:.2%}{baseline}: the mean distance of confidence and accuracy "
        f"over {NUM_BINS} bins (Guo et al. 2017). On average the model is {confidence.mean():.1%} sure and "
        f"{right.mean():.1%} right: {leaning} often right than it says."
    )
    return Section(
        title="Calibration",
        how_to_read="Of images that the model is 80 % sure of, 80 % should be right: bars that end below the dotted "
        "line are overconfident, bars above it too cautious; below, how many images each bar is made of.",
        html=render_chart(figure, "Accuracy by confidence") + render_text(text),
    )


def build_rejection(found: Evaluated) -> Section | None:
    """Builds what is known of the detector of images that are none of the classes."""
    path = found.folder / "rejection_report.json"
    if not path.is_file():
        return None
    return file_guard.read_json(path, "the rejection of images", REMEDY, lambda values: _show(found, values))


def _show(found: Evaluated, values: Json) -> Section:
    columns = {"kind of image": "", "images": ",d", "AUROC": ".4f", "refused": ".1%", "AUROC of softmax": ".4f"}
    rows = [
        [name, kind["num_images"], kind["auroc"], kind["rejected"], kind["softmax"]["auroc"]]
        for name, kind in values["sets"].items()
    ]
    accepted = values["accepted"]
    of_accepted = "" if accepted["accuracy"] is None else f"; of these {accepted['accuracy']:.2%} are labelled right"
    text = f"{accepted['share']:.1%} of the test images are accepted{of_accepted} ({values['score']})."
    html = render_text(text)
    for doubt in values["fitted"].get("doubts", []):
        html += Markup('<p class="note">Not to be trusted: {}.</p>').format(doubt)
    html += render_table(columns, rows, "What is none of the classes")
    if (found.folder / "rejection.png").is_file():
        html += show_picture(found.folder / "rejection.png", "Scores of test images and of what is none of them")
    if refused := found.find(found.examples.get("refused", [])):
        html += Markup("<p>Test images that were refused, the least familiar first:</p>") + render_gallery(refused)
    return Section(
        title="Refusing what is none of the classes",
        how_to_read="AUROC is the chance that a test image looks more familiar to the detector than such an image: 1 "
        "tells all apart, 0.5 none; refused is how many of them get no label.",
        html=html,
    )
