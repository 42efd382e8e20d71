"""Writes a proposal as a study file: plain data with comments that say why, to be read and changed."""

import functools
from pathlib import Path
from typing import Any

from raysweep import atomic_files
from raysweep.catalogue import load_study
from raysweep.data.description import UNEVEN
from raysweep.proposal.choices import CORES_PER_GPU, Choices, choose, guess_seconds
from raysweep.proposal.facts import Images, Machine, look_at_images
from raysweep.stages import stage
from raysweep.tasks.classification.config import FASHION_CNN

MAX_LINE = 120
"""Letters of a line of the file."""
HEAD = '''"""{name}: a study proposed from a folder of images.

Change what you know better, and run it with `tune` and its name or path.
"""

{imports}

# {seen}
'''
CLASSIFIER = """# Chosen for {machine}, {minutes:.0f} minutes.
STUDY = Study(
    name="{name}",
    task=ClassificationConfig(
        model="{model}",
        # {why_weights}
        pretrained={pretrained},
        optimizer="adamw",
        learning_rate={learning_rate},
{backbone}        weight_decay=1e-2,
        dropout=0.2,
        schedule="one_cycle",
    ),
    data=DataConfig(
        source={source},
        image_size={image_size},  # the shorter side is {side} pixels (median); larger is slower
        channels={channels},
        normalization="{normalization}",
        # Where a mirror image is of another class, as of digits, add horizontal_flip=0.0.
        augmentation=AugmentationConfig(strength=0.2),
    ),
    training=TrainingConfig(epochs={epochs}, batch_size={batch_size}),
    space={{
        "task.model": CategoricalDistribution({models}),
        "task.learning_rate": FloatDistribution(2e-4, 5e-3, log=True),
{own_space}        "task.weight_decay": FloatDistribution(1e-4, 1e-1, log=True),
        "task.label_smoothing": FloatDistribution(0.0, 0.2),
        "task.dropout": FloatDistribution(0.0, 0.5),
        "training.batch_size": CategoricalDistribution({batch_sizes}),
        # So that the longest ends in time: {speed}.
        "training.epochs": IntDistribution({min_epochs}, {max_epochs}),
        "data.augmentation.strength": FloatDistribution(0.0, {most_augmentation}),
    }},{conditions}
    # Tried right after the baseline, which is the study's own values.
    points={points},
    objective=Objective(metric="{objective}"),{why_objective}
    # None starts after time_s seconds. Most are stopped early, so that so many are hardly ever reached.
    budget=Budget(trials={num_trials}, time_s={time_s}),
)
"""
AUTOENCODER = """# Without classes: an autoencoder. Put the images into a folder for each class to have a classifier.
# Chosen for {machine}, {minutes:.0f} minutes.
STUDY = Study(
    name="{name}",
    task=AutoencoderConfig(
        bottleneck="dense",
        latent_size=32,
        loss="mse",
        width=2.0,
        batch_norm=True,
        learning_rate=2e-3,
        schedule="one_cycle",
    ),
    data=DataConfig(
        source={source},
        image_size={image_size},  # a multiple of 4; the shorter side is {side} pixels (median)
        channels={channels},
        normalization="unit",
    ),
    training=TrainingConfig(epochs={epochs}, batch_size={batch_size}),
    space={{
        "task.width": CategoricalDistribution((1.0, 2.0, 4.0)),
        "task.latent_size": CategoricalDistribution((8, 16, 32, 64, 128)),
        "task.variant": CategoricalDistribution(("plain", "denoising")),
        "task.learning_rate": FloatDistribution(3e-4, 1e-2, log=True),
        "task.dropout": FloatDistribution(0.0, 0.3),
        "training.batch_size": CategoricalDistribution({batch_sizes}),
        # So that the longest ends in time: {speed}.
        "training.epochs": IntDistribution({min_epochs}, {max_epochs}),
    }},
    # Larger codes have smaller errors; for a front of both add second_objective.
    objective=Objective(metric="val/mse", direction="minimize"),
    # None starts after time_s seconds. Most are stopped early, so that so many are hardly ever reached.
    budget=Budget(trials={num_trials}, time_s={time_s}),
)
"""


def write_proposal(
    path: Path, name: str, source: str, machine: Machine, *, time_s: float, storage: Path, data_root: Path | None
) -> None:
    """Proposes a study for the images of a source, and writes its file.

    Raises:
        DataError: the images cannot be had.
        UsageError: the file cannot be written.
    """
    images = look_at_images(source, storage=storage, data_root=data_root)
    if machine.num_gpus:
        timer = guess_seconds
    else:
        from raysweep.proposal.timer import time_image  # slow: imports torch

        timer = functools.cache(time_image)
    with stage("choose networks and image size"):
        text = render(name, images, machine, choose(images, machine, time_s, timer), time_s)
    atomic_files.make_folder(path.parent)
    atomic_files.write_text(path, text)
    load_study(str(path))


def render(name: str, images: Images, machine: Machine, choices: Choices, time_s: float) -> str:
    """Writes the text of a study file. Of a source's name nothing gets in but as a literal of Python."""
    is_grey = images.is_grey and not choices.pretrained
    values = {
        "name": name,
        "machine": machine,
        "minutes": time_s / 60,
        "time_s": time_s,
        "source": _quote(images.source),
        "seen": (
            f"{images.num_train:,} images for training, {images.num_val:,} for validation, {images.num_test:,} for the "
            f"test; {f'{images.num_classes} classes' if images.num_classes else 'no classes'}, "
            f"{'grey' if images.is_grey else 'in colour'}."
        ),
        "side": images.side,
        "image_size": choices.image_size,
        "channels": 1 if is_grey else 3,
        "normalization": "unit" if is_grey else "imagenet",
        "epochs": max(2, choices.max_epochs // 2),
        "min_epochs": max(2, choices.max_epochs // 4),
        "max_epochs": choices.max_epochs,
        "speed": f"a GPU counted as {CORES_PER_GPU} cores, by a rough table"
        if machine.num_gpus
        else f"{choices.images_per_s:,.{0 if choices.images_per_s >= 10 else 1}f} images/s a core, as timed here",
        "batch_size": choices.batch_sizes[0],
        "batch_sizes": choices.batch_sizes,
        "num_trials": choices.num_trials,
        "imports": _write_imports(bool(images.num_classes), FASHION_CNN in choices.models),
    }
    if not images.num_classes:
        return (HEAD + AUTOENCODER).format(**values)
    return (HEAD + CLASSIFIER).format(**values, **_write_choices(images, choices))


def _write_choices(images: Images, choices: Choices) -> dict[str, Any]:
    """Writes the parts of a classifier's study."""
    head, *others = choices.models
    is_own = head == FASHION_CNN
    factor = '        "task.backbone_factor": FloatDistribution(0.05, 1.0, log=True),\n'
    weighting = '        "task.class_weighting": FloatDistribution(0.0, 1.0),\n'
    when = f'When("task.model", "{FASHION_CNN}", {{"task.batch_norm": CategoricalDistribution((False, True))}})'
    norm = ['"task.batch_norm": True'] if is_own else []
    longest = ", ".join([f'"training.epochs": {choices.max_epochs}', *norm])
    points = [longest, *norm, *(f'"task.model": "{model}"' for model in others[:2])]
    return {
        "model": head,
        "models": _tuple([f'"{model}"' for model in choices.models]),
        "pretrained": choices.pretrained,
        "why_weights": f"{'Pretrained' if choices.pretrained else 'From scratch'}: {choices.why_weights}.",
        "learning_rate": choices.learning_rate,
        "backbone": "        backbone_factor=0.3,\n" * choices.pretrained,
        "own_space": factor * choices.pretrained + weighting * images.is_uneven,
        "most_augmentation": 0.5 if is_own else 1.0,
        "conditions": f"\n    conditions=({when},)," * is_own,
        "points": _tuple([f"{{{point}}}" for point in points]),
        "objective": "val/macro_f1" if images.is_uneven else "val/accuracy",
        "why_objective": f"  # classes are uneven, {UNEVEN} times or more: accuracy tells little" * images.is_uneven,
    }


def _tuple(texts: list[str]) -> str:
    return f"({', '.join(texts)}{',' * (len(texts) == 1)})"


def _write_imports(has_classes: bool, is_own: bool) -> str:
    names = ["Budget", "DataConfig", "Objective", "Study", "TrainingConfig"]
    names += ["AugmentationConfig", "ClassificationConfig"] if has_classes else ["AutoencoderConfig"]
    names += ["When"] * is_own
    line = f"from raysweep import {', '.join(sorted(names))}"
    if len(line) > MAX_LINE:
        line = "from raysweep import (\n" + "".join(f"    {name},\n" for name in sorted(names)) + ")"
    return f"from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution\n\n{line}"


def _quote(text: str) -> str:
    return '"' + text + '"' if text.isprintable() and not set(text) & set('"\\') else repr(text)
