"""Draws what the evaluation of an autoencoder found."""

import sys

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix

from raysweep.data.batches import normalise_images, to_pixels
from raysweep.data.images import space_evenly
from raysweep.errors import CorruptFileError
from raysweep.evaluate.figures.classification import save_confusion_matrix
from raysweep.evaluate.figures.curves import save_curves
from raysweep.evaluate.figures.images import save_class_bars, save_rows, save_samples
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel, describe_model, load_model
from raysweep.tasks.autoencoder.config import AutoencoderConfig
from raysweep.tasks.autoencoder.latent_plots import save_latent_map, save_latent_sizes
from raysweep.tasks.autoencoder.reconstruction import decode_pixels, encode_images
from raysweep.tasks.autoencoder.report import Findings, class_means, describe_sizes
from raysweep.train.history import check_weights, load_history

NUM_IMAGES = 12
NUM_TRAVERSED = 10
NUM_STEPS = 11
MANIFOLD_SIDE = 20
NUM_SAMPLES = 64
SEED = 2


def draw_figures(run: FinalRun, findings: Findings) -> None:
    """Writes all pictures to `run.folder`."""
    title, classes = describe_model(run.best), run.best.info.classes
    _draw_reconstructions(run, findings, title)
    by_class = {f"best: {title}": class_means(findings.best.errors, run.test.labels, len(classes))}
    if run.rival is not None and findings.baseline is not None:
        errors = class_means(findings.baseline.errors, run.test.labels, len(classes))
        by_class[f"baseline: {describe_model(run.rival)}"] = errors
    save_class_bars(
        run.folder / "error_by_class.png",
        by_class,
        classes,
        label="squared error per pixel",
        title=f"Error by class, {len(run.test)} test images",
        note=run.note,
    )
    components = PCA(2, random_state=0).fit(findings.best.codes)
    points = components.transform(findings.best.codes)
    save_latent_map(
        run.folder / "latent_map.png",
        points,
        run.test.labels,
        classes,
        explained=(float(components.explained_variance_ratio_[0]), float(components.explained_variance_ratio_[1])),
        title=f"Codes of {len(run.test)} test images, {title}",
        note=run.note,
    )
    save_confusion_matrix(
        run.folder / "confusion_matrix.png",
        confusion_matrix(run.test.labels, findings.probe.predicted, labels=range(len(classes))),
        classes,
        title=f"Linear probe on the frozen code, {title}",
        note=run.note,
    )
    _draw_traversals(run, findings, title)
    _draw_prior(run, findings, title)
    _draw_sizes(run, findings)
    _draw_reconstructions_of_sizes(run, findings)
    if run.histories:
        save_curves(
            run.folder / "curves.png",
            run.histories,
            metrics=["val/mse", "val/bce"],
            title="Training and validation",
            note=run.note,
            direction="minimize",
        )


def _draw_reconstructions(run: FinalRun, findings: Findings, title: str) -> None:
    """Draws originals over what the best model and the baseline make of them."""
    rows = space_evenly(len(run.test), NUM_IMAGES)
    names = ["test images", f"best: {title}"]
    shown = [_show_originals(run, rows), decode_pixels(run.best, findings.best.codes[rows])]
    if run.rival is not None and findings.baseline is not None:
        names.append(f"baseline: {describe_model(run.rival)}")
        shown.append(decode_pixels(run.rival, findings.baseline.codes[rows]))
    save_rows(
        run.folder / "reconstructions.png", np.stack(shown), names=names, title="Test images and their reconstructions",
        note=run.note,
    )  # fmt: skip


def _show_originals(run: FinalRun, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Prepares test images as the best model is given them."""
    return to_pixels(normalise_images(run.test.gather(rows), run.best.config.data, _device(run.best)))


def _draw_reconstructions_of_sizes(run: FinalRun, findings: Findings) -> None:
    """Draws what the best model of each size of code makes of the same test images, where it was kept."""
    rows = space_evenly(len(run.test), NUM_IMAGES)
    names, shown, lost = ["test images"], [_show_originals(run, rows)], [run.note] if run.note else []
    for entry in findings.sizes.sizes:
        folder = run.run_folder.trial(entry.number)
        if not folder.weights.is_file():
            continue
        try:
            model = load_model(folder.weights, folder.config, _device(run.best))
            check_weights(load_history(folder), folder.metrics, model.facts)
        except CorruptFileError as error:
            print(f"latent_size_reconstructions.png lacks trial {entry.number}: {error}", file=sys.stderr)
            lost.append(f"trial {entry.number} is damaged")
            continue
        names.append(f"{entry.size} values (trial {entry.number})")
        shown.append(decode_pixels(model, encode_images(model, run.test, rows)))
    save_rows(
        run.folder / "latent_size_reconstructions.png",
        np.stack(shown),
        names=names,
        title="Test images through codes of each size",
        subtitle="the best trial of each size by its validation error",
        note="; ".join(lost),
    )


def _device(model: StoredModel) -> torch.device:
    return next(model.modules["model"].parameters()).device


def _draw_traversals(run: FinalRun, findings: Findings, title: str) -> None:
    """Draws one value of a code moved, all others as they are, for the values that vary most."""
    codes = findings.best.codes
    spread = codes.std(axis=0)
    leading = np.argsort(-spread)[:NUM_TRAVERSED]
    start = codes[0]
    moved = np.tile(start, (len(leading), NUM_STEPS, 1))
    for row, place in enumerate(leading):
        moved[row, :, place] = codes[:, place].mean() + np.linspace(-3, 3, NUM_STEPS) * spread[place]
    images = decode_pixels(run.best, moved.reshape(-1, moved.shape[-1]))
    save_rows(
        run.folder / "traversals.png",
        images.reshape(len(leading), NUM_STEPS, *images.shape[1:]),
        names=[f"value {place}" for place in leading],
        title=f"Traversals of the code, {title}",
        subtitle="each row: one value of the first test image's code, from its mean over test images minus 3 to plus 3 "
        "standard deviations; the values that vary most",
        note=run.note,
    )


def _draw_prior(run: FinalRun, findings: Findings, title: str) -> None:
    """Draws a variational autoencoder's images of codes of the prior, and its manifold."""
    assert isinstance(run.best.config.task, AutoencoderConfig)
    if run.best.config.task.variant != "variational":
        return
    noise = np.random.default_rng(SEED).standard_normal((NUM_SAMPLES, findings.code_size))
    samples = {title: decode_pixels(run.best, noise)}
    save_samples(run.folder / "prior_samples.png", samples, title="Images of the prior", note=run.note)
    manifold = {title: decode_pixels(run.best, span_manifold(findings.best.codes, MANIFOLD_SIDE))}
    plane = "the two values of the code" if findings.code_size == 2 else "the two values of the code that vary most"
    save_samples(
        run.folder / "manifold.png",
        manifold,
        title=f"Manifold: {plane}, at even quantiles of the prior",
        note=run.note,
    )


def span_manifold(codes: npt.NDArray[np.floating], side: int) -> npt.NDArray[np.float64]:
    """Spans codes (side * side, K) of a grid over the two values of (N, K) that vary most; all others are 0.

    The grid is of even quantiles of the standard normal prior, as in Kingma & Welling 2014, figure 4.
    """
    quantiles = norm.ppf((np.arange(side) + 0.5) / side)
    grid = np.zeros((side, side, codes.shape[1]))
    first, second = np.argsort(-codes.std(axis=0))[:2]
    grid[..., first], grid[..., second] = np.meshgrid(quantiles, quantiles[::-1])
    return grid.reshape(side * side, -1)


def _draw_sizes(run: FinalRun, findings: Findings) -> None:
    entries = findings.sizes.sizes
    save_latent_sizes(
        run.folder / "latent_sizes.png",
        [entry.size for entry in entries],
        [entry.error for entry in entries],
        [entry.pca_error for entry in entries],
        stopped=[entry.stopped for entry in entries],
        smallest=findings.sizes.smallest.size,
        labels=[f"trial {entry.number}" for entry in entries],
        title="Error of each size of code",
        subtitle=f"{findings.sizes.num_images} validation images; outlined: {describe_sizes(findings.sizes)}",
        note=run.note,
    )
