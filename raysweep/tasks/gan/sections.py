"""Makes the report's sections on a generator: its images, and what the judge says of them."""

import plotly.graph_objects as go

from raysweep.evaluate.picture_sections import Picture, build_picture_sections
from raysweep.report.section import Cell, Section, render_chart, render_table, render_text
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.tasks.gan.rows import ROWS
from raysweep.trial_result import BASELINE

GRIDS = (
    Picture(
        "samples.png",
        "Generated images",
        "Images of the same random numbers from the best generator and the baseline's, not picked by anyone.",
    ),
    Picture(
        "progress.png",
        "Progress",
        "The same random numbers after more and more epochs, from left to right: where images stop changing, training "
        "has settled; where they all become alike, it has collapsed.",
    ),
)
PICTURES = (
    Picture(
        "confusion_matrix.png",
        "Asked for and recognised",
        "Rows are classes that the generator was asked for, columns what the judge took its images for: a strong "
        "diagonal means that it does what it is asked.",
    ),
    Picture(
        "interpolations.png",
        "Between two draws",
        "Each row goes from one draw of noise to another: smooth changes speak for a generator that has learnt shapes, "
        "jumps for one that has learnt images by heart.",
    ),
    Picture(
        "nearest_training_images.png",
        "Nearest training images",
        "Beside each generated image the training images that are most like it: one that is the same is a copy.",
    ),
    Picture(
        "curves.png",
        "Losses and Frechet distance",
        "Losses that stay level are a balance of generator and discriminator; only the distance says how good images "
        "are, and lower is better.",
    ),
)


def build_sections(folder: RunFolder, results: Results) -> list[Section]:
    """Builds the sections of a generator."""
    return [
        *build_picture_sections(folder.test, GRIDS),
        build_scores(results),
        build_classes(results),
        *build_picture_sections(folder.test, PICTURES),
    ]


def build_scores(results: Results) -> Section:
    """Builds the table of what the judge says of best, baseline and real images."""
    test = results.test
    baseline = test.baseline or {}
    columns = {"score": "", "best": ".4f", "baseline": ".4f", "real images": ".4f", "what is good": ""}
    rows: list[list[Cell]] = [
        [title, *(_show(scores.get(name)) for scores in (test.own, baseline, test.real)), direction]
        for title, name, direction, _ in ROWS
    ]
    judge = test.judge
    text = (
        f"{test.lift['text']}. The judge is a classifier, right on {judge['accuracy']:.2%} of the validation images "
        f"({judge['source']}); scores compare only where it is the same one."
    )
    html = render_text(text) + render_table(columns, rows, f"Scores of {test.num_images} images")
    if synthetic := test.own.get("train_on_synthetic"):
        html += render_text(
            f"Trained on {synthetic['num_images']} generated images, a classifier is right on "
            f"{synthetic['synthetic']:.2%} of the test images; on as many real ones, {synthetic['real']:.2%} "
            "(Esteban et al. 2017)."
        )
    return Section(
        title="The judge's figures",
        how_to_read="Real images are training images in the place of generated ones: what a perfect generator would "
        "score.",
        html=html,
    )


def _show(value: float | None) -> Cell:
    """Returns a count as a text, which has no digits after the point."""
    return str(value) if isinstance(value, int) else value


def build_classes(results: Results) -> Section:
    """Builds how many images of each class the judge recognises."""
    test, classes = results.test, list(results.data.classes)
    counts = {"best": test.class_counts, "baseline": (test.baseline or {}).get("class_counts")}
    if results.best.number == BASELINE:
        counts.pop("baseline")
    counts["real images"] = test.real["class_counts"]
    figure = go.Figure(
        [
            go.Bar(
                x=classes, y=[count / max(1, sum(values)) for count in values], name=name,
                hovertemplate="class %{x}: %{y:.1%}",
            )
            for name, values in counts.items() if values
        ]
    )  # fmt: skip
    figure.update_xaxes(type="category", title="class, as the judge recognises it")
    figure.update_yaxes(tickformat=".0%", title="images")
    return Section(
        title="Which classes it makes",
        how_to_read="Bars should be about as high as those of real images; a class without one is forgotten "
        "(mode collapse).",
        html=render_chart(figure, "Shares of the classes among generated and real images"),
    )
