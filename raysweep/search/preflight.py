"""Checks before any trial starts what would fail every one."""

from optuna.distributions import CategoricalDistribution, IntDistribution

from raysweep.config import check_config
from raysweep.data.images import PreparedData
from raysweep.errors import UsageError
from raysweep.registry import describe_reference, load_object
from raysweep.study import Study
from raysweep.tasks import TASKS
from raysweep.train.task import build_task


def check_study(study: Study, num_workers: int) -> None:
    """Fails on a task or models that cannot be had and on batches too small for the workers.

    Raises:
        UsageError: one of these.
    """
    space = dict(study.all_distributions())
    models = space.get("task.model")
    describe_reference(TASKS, type(study.task), study.task.kind)
    for reference in (study.task.task, study.task.evaluation):
        load_object(reference)
    study.task.check_available()
    for model in models.choices if isinstance(models, CategoricalDistribution) else ():
        study.trial_config({"task.model": model}, 0).task.check_available()
    smallest, _ = batch_sizes(study)
    if smallest < 2 * num_workers:
        raise UsageError(
            f"a batch is divided over the workers and needs at least 2 images for each: the smallest batch size of "
            f"{study.name} is {smallest}, for {num_workers} workers it must be {2 * num_workers} or more; "
            f"set --set training.batch_size={max(2 * num_workers, 32)}, or lower --workers"
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


def check_models(study: Study, data: PreparedData) -> None:
    """Builds the networks of the points that are tried first, for the images there are.

    Raises:
        UsageError: a network cannot be built for these images.
    """
    for number, point in enumerate(study.starting_points):
        config = study.trial_config(point, number)
        check_config(lambda c=config: build_task(c, data.info).load_modules(), f"{study.name} on {data.info.source}")
