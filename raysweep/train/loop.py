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

from raysweep.config import Objective, TrialConfig
from raysweep.data.batches import Worker, derive_seed, iterate_evaluation, iterate_training
from raysweep.data.images import ImageSet, PreparedData, space_evenly
from raysweep.errors import TrialError
from raysweep.run_folder import TrialFolder
from raysweep.train.cost import find_costs
from raysweep.train.metrics import compare_with_declared
from raysweep.train.report import EpochReport
from raysweep.train.restoring import restore
from raysweep.train.state import Prepare, TrainState
from raysweep.train.task import Task, build_task
from raysweep.train.trial_files import TrialFiles

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
) -> TrainState:
    """Trains one trial and calls `report` after each epoch, on every worker.

    With a `folder`, rank 0 writes `metrics.jsonl`, `last/` and `best/model.safetensors` as TrialFiles says; with
    `resume` the trial goes on from `last/`. An earlier process may have ended before its last epochs arrived: with
    `num_reported` those after so many are reported again from the history, and the last one in any case, which says
    whether the trial is finished. A StopTrial that `report` raises ends the trial, and is raised.

    A `second_objective` that is a cost of the model is among the metrics of each epoch. It decides nothing here.

    Raises:
        TrialError: a metric is not finite, or is not declared by the task.
        StorageError: the storage takes nothing for too long.
    """
    torch.manual_seed(derive_seed(config.seed))
    task = build_task(config, data.info, worker.num_workers, data.folder)
    state = task.init_state(worker, prepare)
    if resume and folder is not None:
        report = _add_notice(report, restore(folder, state, worker))
    files = None
    if folder is not None and worker.rank == 0:
        files = TrialFiles(folder, state, config.training.checkpoint_period_s)
    with files or contextlib.nullcontext():
        if state.epoch and num_reported is not None:
            _report_again(state, config, objective, second_objective, min(num_reported, state.epoch - 1), report)
        costs = find_costs(task, state, config, worker, second_objective)
        while not is_finished(state, config):
            metrics = _train_epoch(task, state, config, data.train, worker)
            metrics |= _evaluate(task, state, config, data.val, worker) | costs
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


def _add_notice(report: Report, notice: str | None) -> Report:
    """Returns a report whose first call carries the notice."""
    notices = [] if notice is None else [notice]
    return lambda epoch: report(dataclasses.replace(epoch, notice=notices.pop() if notices else None))


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
    task: Task, state: TrainState, config: TrialConfig, images: ImageSet, worker: Worker
) -> dict[str, float]:
    """Passes once over the training images; returns means over all images of all workers."""
    began = time.perf_counter()
    sums: dict[str, torch.Tensor] = {}
    count = torch.zeros((), device=worker.device)
    learning_rate = next(iter(state.optimizers.values())).param_groups[-1]["lr"]
    batches = iterate_training(
        images,
        config.data,
        batch_size=config.training.batch_size,
        seed=config.seed,
        epoch=state.epoch,
        worker=worker,
    )
    for step, batch in enumerate(batches):
        torch.manual_seed(derive_seed(config.seed, state.epoch, step, worker.rank))
        for name, value in task.train_step(state, batch).items():
            sums[name] = sums.get(name, 0) + value * len(batch.labels)
        count += len(batch.labels)
        state.step += 1
    names = sorted(sums)
    totals = torch.stack([count, *(sums[name] for name in names)]).double()
    if worker.num_workers > 1:
        torch.distributed.all_reduce(totals)
    seen, *values = totals.tolist()
    metrics = {f"train/{name}": value / seen for name, value in zip(names, values, strict=True)}
    return {
        "epoch": float(state.epoch + 1),
        **metrics,
        "learning_rate": float(learning_rate),
        "train/images_per_s": seen / (time.perf_counter() - began),
    }


def _evaluate(task: Task, state: TrainState, config: TrialConfig, images: ImageSet, worker: Worker) -> dict[str, float]:
    """Computes the task's metrics on the validation images of all workers."""
    if worker.num_workers > 1:
        _share_buffers(state)
    batches = iterate_evaluation(
        images,
        config.data,
        batch_size=config.training.eval_batch_size,
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
