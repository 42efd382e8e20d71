"""Checks before any trial starts what would fail every one, and before Ray starts what needs no Ray."""

import sys
from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution, IntDistribution

from raysweep.config import check_config
from raysweep.data.sources import is_folder, load_source
from raysweep.errors import DataError, UsageError
from raysweep.registry import describe_reference, load_object
from raysweep.search.observer import load_observers
from raysweep.search.options import RunOptions
from raysweep.search.session.storage import open_storage
from raysweep.study import Study
from raysweep.tasks import TASKS

if TYPE_CHECKING:
    from raysweep.data.images import PreparedData
    from raysweep.data.records import Source

NUM_SAMPLED = 60
"""Images that are looked at before a search starts."""


def check_start(study: Study, options: RunOptions) -> "Source | None":
    """Looks at all that can be wrong before Ray and torch are imported, the quickest first; returns the images' source.

    None: the run may be finished, and then needs no images.

    Raises:
        UsageError: the run's folder exists and is not to be resumed, there is no such observer or Optuna storage, or
            see `check_study`.
        DataError: the images cannot be had.
    """
    folder = options.run_folder
    options.check_folder()
    load_observers(options.observers)
    if options.optuna_storage is not None:
        open_storage(folder, options.optuna_storage)
    if folder.results.is_file():
        check_study(study, options.num_workers)
        return None
    return check_inputs(study, options)


def check_inputs(study: Study, options: RunOptions) -> "Source":
    """Checks a study and finds its images, the quicker first: a folder is listed at once, others are drawn or loaded.

    Raises:
        UsageError: see `check_study`.
        DataError: the images cannot be had.
    """
    check_batches(study, options.num_workers)
    check_graphs(study, options.num_workers)
    source = find_images(study, options) if is_folder(study.data.source) else None
    check_study(study, options.num_workers)
    return source or find_images(study, options)


def find_images(study: Study, options: RunOptions) -> "Source":
    """Finds the images of a study, and says on stderr what a user may not expect of them.

    Raises:
        DataError: they cannot be had, or have no classes and the task needs some.
    """
    from raysweep.data.description import describe_classes, describe_images  # slow: imports Pillow
    from raysweep.data.survey import sample_train

    source = load_source(
        study.data.source,
        split_seed=study.data.split_seed,
        storage=options.storage,
        data_root=options.data_root,
    )
    if study.task.needs_classes and source.no_classes:
        raise DataError(source.no_classes)
    seen = describe_images(sample_train(source, NUM_SAMPLED), study.data.image_size, study.data.channels)
    classes = describe_classes(source) if study.task.needs_classes else ()
    print_notes((*source.notes, *classes, *seen))
    return source


def print_notes(notes: tuple[str, ...]) -> None:
    """Prints on stderr, a line each, what a user may not expect of the images."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def check_study(study: Study, num_workers: int) -> None:
    """Fails on a task or models that cannot be had and on batches too small for the workers.

    Raises:
        UsageError: one of these.
    """
    check_batches(study, num_workers)
    space = dict(study.all_distributions())
    models = space.get("task.model")
    describe_reference(TASKS, type(study.task), study.task.kind)
    study.task.check_available()
    for model in models.choices if isinstance(models, CategoricalDistribution) else ():
        study.trial_config({"task.model": model}, 0).task.check_available()
    task, _ = (load_object(reference) for reference in (study.task.task, study.task.evaluation))
    check_graphs(study, num_workers, is_capturable=task.is_capturable)


def check_batches(study: Study, num_workers: int) -> None:
    """Fails on batches too small for the workers.

    Raises:
        UsageError: the smallest that a trial may have is.
    """
    smallest, _ = batch_sizes(study)
    if smallest < 2 * num_workers:
        raise UsageError(
            f"a batch is divided over the workers and needs at least 2 images for each: the smallest batch size of "
            f"{study.name} is {smallest}, for {num_workers} workers it must be {2 * num_workers} or more; "
            f"set --set training.batch_size={max(2 * num_workers, 32)}, or lower --workers"
        )


def check_graphs(
    study: Study, num_workers: int, *, is_capturable: bool = True, gpus_per_worker: float | None = None
) -> None:
    """Fails where trials are to run as CUDA graphs and cannot; without `gpus_per_worker` these are not known yet.

    Raises:
        UsageError: there are several workers or no GPU, or a training step of the task cannot be recorded.
    """
    match dict(study.all_distributions()).get("training.cuda_graphs"):
        case CategoricalDistribution(choices=choices):
            asked = True in choices
        case _:
            asked = study.training.cuda_graphs
    causes = {
        f"{num_workers} workers": num_workers > 1,
        "no GPU": gpus_per_worker == 0,
        f"the task {study.task.kind}, which is not": not is_capturable,
    }
    if asked and any(causes.values()):
        got = ", ".join(cause for cause, holds in causes.items() if holds)
        raise UsageError(
            f"training.cuda_graphs=true needs one worker with a GPU and a task that is_capturable, got {got}; "
            "set --set training.cuda_graphs=false"
        )


def batch_sizes(study: Study) -> tuple[int, int]:
    """Finds the smallest and the largest batch that a trial may have."""
    sizes = [study.training.batch_size]
    match dict(study.all_distributions()).get("training.batch_size"):
        case CategoricalDistribution(choices=choices):
            sizes += [int(str(choice)) for choice in choices]
        case IntDistribution(low=low, high=high):
            sizes += [low, high]
    return min(sizes), max(sizes)


def check_models(study: Study, data: "PreparedData") -> None:
    """Builds the networks of the points that are tried first, for the images there are.

    Raises:
        UsageError: a network cannot be built for these images.
    """
    from raysweep.train.task import build_task  # slow: imports torch

    for number, point in enumerate(study.starting_points):
        config = study.trial_config(point, number)
        check_config(lambda c=config: build_task(c, data.info).load_modules(), f"{study.name} on {data.info.source}")
