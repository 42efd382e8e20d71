"""The training loop: epochs, metrics, checkpoints, early stopping. It knows nothing of Ray.

The same function runs in a trial's own process, in each DDP worker and in unit tests.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable

import torch
import torch.distributed

from raysweep import atomic_files
from raysweep.config import Objective
from raysweep.data.batches import Worker, derive_seed, iterate_evaluation, iterate_ingredients
from raysweep.data.images import PreparedData, space_evenly
from raysweep.data.placement import Images, place
from raysweep.errors import TrialError
from raysweep.run_folder import TrialFolder
from raysweep.storage_faults import patiently
from raysweep.train.accumulation import describe_parts, recall_num_parts
from raysweep.train.cost import find_costs
from raysweep.train.history import DATA_WAIT, SPEED
from raysweep.train.metrics import compare_with_declared
from raysweep.train.report import EpochReport
from raysweep.train.restoring import restore
from raysweep.train.state import Prepare, TrainState
from raysweep.train.step import StepRunner, build_runner
from raysweep.train.task import Task, build_task
from raysweep.train.trial_files import TrialFiles
from raysweep.trial_config import TrialConfig

Report = Callable[[EpochReport], None]


def fit(
    config: TrialConfig,
    data: PreparedData,
    objective: Objective,
    *,
    report: Report,
    second_objective: Objective | None = None,
    folder: TrialFolder | None = None,
    worker: Worker = Worker(),  # noqa: B008 - immutable
    prepare: Prepare = lambda module: module,
    resume: bool = False,
    num_reported: int | None = None,
    num_parts: int = 1,
) -> TrainState:
    """Trains one trial and calls `report` after each epoch, on every worker.

    With a `folder`, rank 0 writes `metrics.jsonl`, `last/` and `best/model.safetensors` as TrialFiles says; with
    `resume` the trial goes on from `last/`. An earlier process may have ended before its last epochs arrived: with
    `num_reported` those after so many are reported again from the history, and the last one in any case, which says
    whether the trial is finished. A StopTrial that `report` raises ends the trial, and is raised.

    `num_parts`: in how many parts, at least, the images of a step are shown to the networks; see accumulation.

    A `second_objective` that is a cost of the model is among the metrics of each epoch. It decides nothing here.

    Raises:
        TrialError: a metric is not finite, or is not declared by the task.
        StorageError: the storage takes nothing for too long.
    """
    torch.manual_seed(derive_seed(config.seed))
    task = build_task(config, data.info, worker.num_workers, data.folder)
    state = task.init_state(worker, prepare)
    notices: list[str] = []
    report = _add_notices(report, notices)
    if resume and folder is not None:
        notices.extend(filter(None, [restore(folder, state, worker)]))
    task.num_parts = recall_num_parts(state.history, num_parts)
    files = None
    if folder is not None and worker.rank == 0:
        files = TrialFiles(folder, state, config.training.checkpoint_period_s)
    with files or contextlib.nullcontext():
        if state.epoch and num_reported is not None:
            _report_again(state, config, objective, second_objective, min(num_reported, state.epoch - 1), report)
        costs = find_costs(task, state, config, worker, second_objective)
        if is_finished(state, config):
            return state
        train, val = place((data.train, data.val), worker.device, worker.num_sharing)
        runner = build_runner(task, state, train, config, worker, lambda notice: _note(notice, notices, folder))
        while not is_finished(state, config):
            metrics = _train_epoch(runner, state, config, train, worker)
            metrics |= _evaluate(task, state, config, val, worker) | costs | describe_parts(task.num_parts)
            _check_declared(task, metrics)
            _check_finite(metrics, config.task.advice_on_divergence)
            improved = _take_metrics(state, metrics, objective, task.end_epoch(state, metrics))
            if files is not None:
                files.epoch_ended(improved, is_finished(state, config), task.sample(state))
            assert state.best_value is not None
            report(
                EpochReport(
                    metrics=metrics,
                    value=metrics[objective.metric],
                    best_value=state.best_value,
                    best_epoch=state.best_epoch,
                    second_value=_second_value(state, second_objective, state.best_epoch),
                    finished=is_finished(state, config),
                    cause=state.cause,
                )
            )
    return state


def _note(notice: str, notices: list[str], folder: TrialFolder | None) -> None:
    """Adds a notice to those that are reported, and to the trial's folder."""
    notices.append(notice)
    if folder is not None:
        patiently(lambda: atomic_files.make_folder(folder.path))
        patiently(lambda: atomic_files.write_text(folder.notices, f"{notice}\n"))


def _add_notices(report: Report, notices: list[str]) -> Report:
    """Returns a report whose next call carries the notices there are."""

    def report_all(epoch: EpochReport) -> None:
        notice = "; ".join(notices) or None
        notices.clear()
        report(dataclasses.replace(epoch, notice=notice))

    return report_all


def _take_metrics(state: TrainState, metrics: dict[str, float], objective: Objective, cause: str | None) -> bool:
    """Counts an epoch that has ended; returns whether it is the best so far."""
    state.cause = cause
    state.epoch += 1
    state.history.append(metrics)
    value = metrics[objective.metric]
    improved = objective.is_better(value, state.best_value)
    if improved:
        state.best_value, state.best_epoch, state.epochs_since_best = value, state.epoch, 0
    else:
        state.epochs_since_best += 1
    return improved


def _second_value(state: TrainState, second_objective: Objective | None, best_epoch: int) -> float | None:
    return None if second_objective is None else state.history[best_epoch - 1][second_objective.metric]


def _report_again(
    state: TrainState,
    config: TrialConfig,
    objective: Objective,
    second_objective: Objective | None,
    num_reported: int,
    report: Report,
) -> None:
    """Reports the epochs of a restored history after the first `num_reported`."""
    best_value, best_epoch = None, 0
    for epoch, metrics in enumerate(state.history, start=1):
        value = metrics[objective.metric]
        if objective.is_better(value, best_value):
            best_value, best_epoch = value, epoch
        if epoch > num_reported:
            assert best_value is not None
            is_last = epoch == state.epoch
            report(
                EpochReport(
                    metrics=metrics,
                    value=value,
                    best_value=best_value,
                    best_epoch=best_epoch,
                    second_value=_second_value(state, second_objective, best_epoch),
                    finished=is_last and is_finished(state, config),
                    cause=state.cause if is_last else None,
                )
            )


def is_finished(state: TrainState, config: TrialConfig) -> bool:
    """Says whether all epochs are done, early stopping has run out of patience, or the task has ended the trial."""
    patience = config.training.early_stopping_patience
    impatient = patience is not None and state.epochs_since_best >= patience
    return state.epoch >= config.training.epochs or impatient or state.cause is not None


def _train_epoch(
    runner: StepRunner, state: TrainState, config: TrialConfig, images: Images, worker: Worker
) -> dict[str, float]:
    """Passes once over the training images; returns means over all images of all workers.

    `train/data_wait_s` is how long this worker's process waited for what the next batch is built from, which is read,
    decoded and drawn on the CPU. A GPU works off meanwhile what it was told before: it stood still for less.
    """
    began = time.perf_counter()
    learning_rate = next(iter(state.optimizers.values())).param_groups[-1]["lr"]
    for module in state.prepared.values():
        module.train()  # once: it walks through all layers
    batches = iterate_ingredients(
        images,
        config.data,
        batch_size=config.training.batch_size,
        seed=config.seed,
        epoch=state.epoch,
        worker=worker,
    )
    wait_s, asked = 0.0, time.perf_counter()
    for step, ingredients in enumerate(batches):
        wait_s += time.perf_counter() - asked
        runner.run(ingredients, derive_seed(config.seed, state.epoch, step, worker.rank))
        asked = time.perf_counter()
    means, seen = runner.read_means()
    return {
        "epoch": float(state.epoch + 1),
        **{f"train/{name}": mean for name, mean in means.items()},
        "learning_rate": float(learning_rate),
        SPEED: seen / (time.perf_counter() - began),
        DATA_WAIT: wait_s,
    }


def _evaluate(task: Task, state: TrainState, config: TrialConfig, images: Images, worker: Worker) -> dict[str, float]:
    """Computes the task's metrics on the validation images of all workers."""
    if worker.num_workers > 1:
        _share_buffers(state)
    batches = iterate_evaluation(
        images,
        config.data,
        batch_size=max(1, config.training.eval_batch_size // task.num_parts),
        worker=worker,
        indices=space_evenly(len(images), task.num_eval_images),
    )
    return task.evaluate(state, batches)


def _share_buffers(state: TrainState) -> None:
    """Gives every worker rank 0's batch-norm statistics, so that all evaluate the same model."""
    for module in (*state.modules.values(), *(average.module for average in state.averages.values())):
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def _check_declared(task: Task, metrics: dict[str, float]) -> None:
    """Raises TrialError unless the metrics of an epoch are those that the task's configuration declares."""
    complaint = compare_with_declared({metric.name for metric in task.config.metrics}, metrics)
    if complaint is not None:
        raise TrialError(
            f"the metrics that a task computes must be those that it declares, got {complaint}; "
            f"see {type(task.config).__name__}.metrics and {type(task).__name__}"
        )


def _check_finite(metrics: dict[str, float], advice: str) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrialError(f"{name} is {value} in epoch {metrics['epoch']:.0f}: training diverged; {advice}")
