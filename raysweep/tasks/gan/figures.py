"""Draws what the evaluation of a generator found."""

import math
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from raysweep import file_guard
from raysweep.errors import CorruptFileError
from raysweep.evaluate.figures import images as figures
from raysweep.evaluate.figures.classification import save_confusion_matrix
from raysweep.evaluate.final_run import FinalRun
from raysweep.evaluate.stored_model import StoredModel, describe_model
from raysweep.tasks.gan import plots
from raysweep.tasks.gan.generated import draw_noise, generate_pixels, interpolate, is_conditional
from raysweep.tasks.gan.report import Findings

GRID_IMAGES = 16
MAX_EPOCHS_SHOWN = 8
NUM_INTERPOLATIONS = 8
NUM_STEPS = 11
NUM_NEAREST_SHOWN = 8
SEED = 2
"""Of the noise of pictures, other than that of the scores."""


def draw_figures(run: FinalRun, findings: Findings) -> None:
    """Writes all pictures to `run.folder`."""
    title, note = describe_model(run.best), run.note
    samples = {f"best: {title}": _sample(run.best)}
    if run.rival is not None:
        samples[f"baseline: {describe_model(run.rival)}"] = _sample(run.rival)
    figures.save_samples(run.folder / "samples.png", samples, title="Generated images", note=note)
    if grids := load_progress(run.run_folder.find_training(run.best.number, run.best.finalist).samples):
        plots.save_progress(run.folder / "progress.png", grids, title=f"Progress of trial {run.best.number}", note=note)
    _draw_interpolations(run, title)
    _draw_nearest(run, findings, title)
    plots.save_losses(
        run.folder / "curves.png",
        run.histories,
        floor=findings.floor,
        floor_label=f"{findings.floor_num_images} training images against the test images",
        title="Losses of generator and discriminator, and Frechet distance",
        note=note,
    )
    _draw_classes(run, findings, title)


def _sample(model: StoredModel) -> npt.NDArray[np.uint8]:
    """Returns 16 images (16, H, W, C), of the classes in turn where the generator can be asked for one."""
    labels = np.arange(GRID_IMAGES) % len(model.info.classes)
    return generate_pixels(model, draw_noise(model, GRID_IMAGES, SEED), labels)


def load_progress(folder: Path) -> dict[int, npt.NDArray[np.uint8]]:
    """Loads the grids (H, W, C) that training left of up to 8 epochs, first and last included, even on a log scale."""
    paths = {int(path.stem.removeprefix("epoch_")): path for path in folder.glob("epoch_*.png")}
    grids = {}
    for epoch in choose_epochs(sorted(paths)):
        try:
            with file_guard.guard(paths[epoch], "samples of an epoch"), Image.open(paths[epoch]) as image:
                pixels = np.asarray(image)
        except CorruptFileError as error:
            print(f"progress.png lacks epoch {epoch}: {error}", file=sys.stderr)
            continue
        grids[epoch] = pixels if pixels.ndim == 3 else pixels[..., None]
    return grids


def choose_epochs(epochs: list[int]) -> list[int]:
    """Returns up to 8 of the epochs in ascending order: first, last, and those nearest to even steps on a log scale."""
    if len(epochs) <= MAX_EPOCHS_SHOWN:
        return epochs
    wanted = np.geomspace(epochs[0], epochs[-1], MAX_EPOCHS_SHOWN)
    return sorted({min(epochs, key=lambda epoch: abs(math.log(epoch / want))) for want in wanted})


def _draw_interpolations(run: FinalRun, title: str) -> None:
    """Draws rows from one draw of noise to another; a conditional generator's of one class each."""
    classes = run.best.info.classes
    ends = draw_noise(run.best, 2 * NUM_INTERPOLATIONS, SEED + 1)
    noise = torch.cat([interpolate(first, last, NUM_STEPS) for first, last in ends.view(NUM_INTERPOLATIONS, 2, -1)])
    labels = np.arange(NUM_INTERPOLATIONS) % len(classes)
    images = generate_pixels(run.best, noise, labels.repeat(NUM_STEPS))
    figures.save_rows(
        run.folder / "interpolations.png",
        images.reshape(NUM_INTERPOLATIONS, NUM_STEPS, *images.shape[1:]),
        names=[classes[label] for label in labels] if is_conditional(run.best) else [],
        title=f"Between draws of noise, {title}",
        subtitle="each row: two draws of noise, first and last, and points of the great circle between them",
        note=run.note,
    )


def _draw_nearest(run: FinalRun, findings: Findings, title: str) -> None:
    shown = slice(0, NUM_NEAREST_SHOWN)
    groups = {}
    for space, found in findings.neighbours.items():
        rows = found.rows[shown]
        images = run.data.train.gather(rows.ravel())
        groups[f"nearest by {space}"] = (images.reshape(*rows.shape, *images.shape[1:]), found.distances[shown])
    plots.save_nearest(
        run.folder / "nearest_training_images.png",
        findings.generated["best"].images[shown],
        groups,
        title=f"Nearest training images, {title}",
        note=run.note,
    )


def _draw_classes(run: FinalRun, findings: Findings, title: str) -> None:
    classes = run.best.info.classes
    counts = {name: images.recognised for name, images in findings.generated.items()}
    counts["test images"] = findings.asked
    figures.save_class_bars(
        run.folder / "classes.png",
        {name: 100 * np.bincount(found, minlength=len(classes)) / len(found) for name, found in counts.items()},
        classes,
        label="% of images",
        line=("equal shares", 100 / len(classes)),
        title="Classes of generated images, as the judge recognises them",
        note=run.note,
    )
    if is_conditional(run.best):
        save_confusion_matrix(
            run.folder / "confusion_matrix.png",
            confusion_matrix(findings.asked, findings.generated["best"].recognised, labels=range(len(classes))),
            classes,
            title=f"Class asked for and class recognised by the judge, {title}",
            note=run.note,
            axes=("class asked for", "class recognised"),
        )
