"""Makes the report's sections on the test images of an autoencoder."""

import plotly.graph_objects as go

from raysweep.evaluate.picture_sections import Picture, build_picture_sections
from raysweep.report.section import Cell, Section, render_chart, render_table, render_text
from raysweep.run_folder import RunFolder
from raysweep.search.results import Results
from raysweep.tasks.autoencoder.rows import ROWS

RECONSTRUCTIONS = (
    Picture(
        "reconstructions.png",
        "Reconstructions",
        "Test images in the first row, below them what is left after the code: what is blurred or gone did not fit in.",
    ),
    Picture(
        "latent_size_reconstructions.png",
        "Reconstructions by size of the code",
        "The same test images through the best model of each size: the more values, the more of an image comes back.",
    ),
)
PICTURES = (
    Picture(
        "error_by_class.png",
        "Error of each class",
        "Higher bars are classes that the code holds less well, most often those with much detail.",
    ),
    Picture(
        "latent_map.png",
        "Map of the codes",
        "Each dot is a test image, placed by the two directions in which codes differ most: classes that lie apart are "
        "told apart by the code.",
    ),
    Picture(
        "confusion_matrix.png",
        "What the code knows of classes",
        "A linear classifier that sees the code alone: rows are true classes, columns what it says, and a strong "
        "diagonal means that the code keeps what tells classes apart.",
    ),
    Picture(
        "traversals.png",
        "Traversals of the code",
        "Each row moves one value of a code and leaves the others: what changes along it is what it stands for.",
    ),
    Picture(
        "prior_samples.png",
        "Images of the prior",
        "Images of codes drawn at random: the more they look like test images, the better the model generates.",
    ),
    Picture(
        "manifold.png",
        "Manifold",
        "Two values of the code over a grid: neighbours should change smoothly into each other.",
    ),
)


def build_sections(folder: RunFolder, results: Results) -> list[Section]:
    """Builds the sections of an autoencoder."""
    return [
        build_errors(results),
        *build_picture_sections(folder.test, RECONSTRUCTIONS[:1]),
        build_sizes(results),
        *build_picture_sections(folder.test, (*RECONSTRUCTIONS[1:], *PICTURES)),
    ]


def build_errors(results: Results) -> Section:
    """Builds the table of errors of best, baseline and PCA."""
    test = results.test
    baseline = test.baseline or {}
    columns = {"error": "", "best": ".5f", "baseline": ".5f", "PCA": ".5f", "what it is": ""}
    rows: list[list[Cell]] = [
        [title, test.own[name], baseline.get(name), test.pca_mse if name == "mse" else None, meaning]
        for title, name, meaning in ROWS
        if name in test.own
    ]
    text = f"{test.lift['text']}; {test.code_size} values in the code."
    return Section(
        title="Reconstruction error",
        how_to_read="Lower is better, but for active units; PCA with as many components is what a linear code of this "
        "size can do.",
        html=render_text(text) + render_table(columns, rows, f"Errors on {test.num_images} test images"),
    )


def build_sizes(results: Results) -> Section:
    """Builds the error of each size of code that the search has tried, and PCA's."""
    found = results.test.latent_sizes
    sizes = found["sizes"]
    at = [entry["size"] for entry in sizes]
    stopped = [entry.get("stopped", False) for entry in sizes]  # which results of older versions do not say
    words = [", stopped before its last epoch" if early else "" for early in stopped]
    trials = [f"trial {entry['number']}{word}" for entry, word in zip(sizes, words, strict=True)]
    figure = go.Figure(
        [
            go.Scatter(
                x=at,
                y=[entry["error"] for entry in sizes],
                name="best trial of the size",
                mode="lines+markers",
                marker={"size": 9, "symbol": ["circle-open" if early else "circle" for early in stopped]},
                customdata=trials,
                hovertemplate="%{x} values: %{y:.5f}, %{customdata}",
            ),
            go.Scatter(
                x=at,
                y=[entry["pca_error"] or None for entry in sizes],  # 0 has no place on a logarithmic axis
                name="PCA",
                mode="lines+markers",
                line={"dash": "dash"},
                hovertemplate="%{x} components: %{y:.5f}",
            ),
        ]
    )
    figure.update_xaxes(type="log", tickvals=at, ticktext=[str(size) for size in at], title="values of the code")
    figure.update_yaxes(type="log", dtick="D2", tickformat=".3g", title="squared error per pixel")
    text = (
        f"The smallest code within {found['tolerance']:.0%} of the lowest error has {found['smallest']} values; "
        f"{found['num_val_images']} validation images, as the test images choose nothing."
    )
    return Section(
        title="How large a code has to be",
        how_to_read="Where the line flattens, more values add little; below PCA's line the network beats a linear one. "
        "Hollow points are trials that were stopped before their last epoch: their sizes might do better.",
        html=render_chart(figure, "Validation error by the size of the code") + render_text(text),
    )
