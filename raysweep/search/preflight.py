"""Checks before any trial starts what would fail every one, and before Ray starts what needs no Ray."""

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution, IntDistribution

from raysweep import config_fields, own_code
from raysweep.config import check_config
from raysweep.data.sources import is_folder, load_source
from raysweep.errors import DataError, UsageError
from raysweep.registry import describe_reference, load_object
from raysweep.search.notification import load_services
from raysweep.search.observer import load_observers
from raysweep.search.options import RunOptions
from raysweep.search.session.storage import open_storage
from raysweep.study import Study
from raysweep.task_config import TaskConfig
from raysweep.tasks import TASKS
from raysweep.tracking.opening import check_trackers

if TYPE_CHECKING:
    from raysweep.data.images import PreparedData
    from raysweep.data.records import Source

NUM_SAMPLED = 60
"""Images that are looked at before a search starts."""


def check_start(study: Study, options: RunOptions) -> "Source | None":
    """Looks at all that can be wrong before Ray and torch are imported, the quickest first; returns the images' source.

    None: the run may be finished, and then needs no images.

    Raises:
        UsageError: the run's folder exists and is not to be resumed, there is no such observer, tracker, service of
            notifications or Optuna storage, or see `check_study`.
        DataError: the images cannot be had.
    """
    folder = options.run_folder
    options.check_folder()
    load_observers(options.observers)
    load_services(options.notify)
    check_trackers(options.trackers)
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
    from raysweep.data.description import describe_choice, describe_classes, describe_images  # slow: imports Pillow
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
    classes = (*describe_classes(source), *describe_choice(source)) if study.task.needs_classes else ()
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
    describe_reference(TASKS, type(study.task), study.task.kind)
    for task_config in list_variants(study):
        own_code.trust(task_config.code_references)
        task_config.check_available()
    task, _ = (load_object(reference) for reference in (study.task.task, study.task.evaluation))
    check_graphs(study, num_workers, is_capturable=task.is_capturable)


def list_variants(study: Study) -> list[TaskConfig]:
    """Lists the study's own task, and those with each choice of what has to be had before: networks, weights."""
    space = dict(study.all_distributions())
    keys = [key for name in study.task.input_fields if (key := f"task.{name}") in space]
    choices = [getattr(space[key], "choices", ()) for key in keys]
    points = [dict(zip(keys, values, strict=True)) for values in itertools.product(*choices)] if keys else []
    return [study.trial_config(point, 0).task for point in ({}, *points)]


def fetch_inputs(study: Study, cache: Path) -> Study:
    """Fetches weights into the cache of the storage; returns the study with digests of what trials begin from.

    Raises:
        UsageError: they cannot be had.
    """
    digests: dict[str, dict[str, str]] = {}
    for task in list_variants(study):
        own_code.trust(task.code_references)
        for name, found in task.fetch(cache).items():
            digests.setdefault(name, {}).update(found)
    task = check_config(lambda: config_fields.replace_fields(study.task, digests), "what trials begin from")
    return dataclasses.replace(study, task=task)


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
            asked = study.training.cuda_graphs is True
    causes = {
        f"{num_workers} workers": num_workers > 1,
        "no GPU": gpus_per_worker == 0,
        f"the task {study.task.kind}, which is not": not is_capturable,
        "code of your own, whose draws would not be seen": bool(study.task.code_references),
    }
    if asked and any(causes.values()):
        got = ", ".join(cause for cause, holds in causes.items() if holds)
        raise UsageError(
            f"training.cuda_graphs=true needs one worker with a GPU and a task that is_capturable, got {got}; "
            "set --set training.cuda_graphs=auto"
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
    """Builds the networks of the points that are tried first, and of each choice, for the images there are.

    Raises:
        UsageError: a network cannot be built for these images, or its pretrained weights do not fit.
    """
    from raysweep.train.task import build_task  # slow: imports torch

    own = study.trial_config({}, 0)
    configs = [study.trial_config(point, number) for number, point in enumerate(study.starting_points)]
    variants = [dataclasses.replace(own, task=task) for task in list_variants(study)[1:]]
    for config in (*configs, *variants):
        task = build_task(config, data.info, folder=data.folder)
        where = f"{study.name} on {data.info.source}"
        task.check_modules(check_config(task.init_modules, where))
