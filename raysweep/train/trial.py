"""Runs one trial on Ray: in the trial's own process, or as DDP through Ray Train. The loop is the same."""

import contextlib
import dataclasses
import gc
import pickle
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray import tune
from ray.exceptions import RayActorError
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from raysweep import atomic_files
from raysweep.cluster.capacity import Request
from raysweep.cluster.ray_internals import health_check_errors
from raysweep.config import Objective, TrialConfig
from raysweep.data.batches import Worker
from raysweep.data.images import PreparedData
from raysweep.data.node_copies import read_nearby
from raysweep.data.stream import RayStream
from raysweep.errors import StorageError, TrialError
from raysweep.run_folder import TrialFolder
from raysweep.storage_faults import find_fault
from raysweep.train.loop import fit
from raysweep.train.precision import prepare_process
from raysweep.train.report import EpochReport, Message, TrialFailure, pack_report
from raysweep.train.usage import UsageRecorder

HEALTH_CHECK_ERRORS = health_check_errors()


class StopTrial(Exception):  # noqa: N818 - a decision, not an error
    """Ends the loop of a DDP trial that is to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSpec:
    """Holds all that is sent to a trial."""

    number: int
    config: TrialConfig
    data: PreparedData
    objective: Objective
    folder: TrialFolder
    request: Request
    scratch: Path
    """Where Ray Train may keep its own files."""
    num_reported: int = 0
    """How many epochs the study has of it, from an earlier process of the trial."""
    measured: bool = False
    """Whether it leaves in its folder what it takes, for a plan."""
    second_objective: Objective | None = None
    """None: there is but one."""


def run_trial(config: dict[str, Any]) -> None:
    """Trains `config["spec"]`, as Ray Tune's trainable, and reports each epoch, or the cause of its failure.

    It goes on from the checkpoint that an earlier process of the trial left in its folder.
    """
    spec: TrialSpec = config["spec"]
    try:
        if spec.request.num_workers == 1:
            device = torch.device("cuda" if spec.request.gpus_per_worker and torch.cuda.is_available() else "cpu")
            _train(spec, Worker(device=device), lambda report: tune.report(pack_report(report)))
        else:
            _train_distributed(spec)
    except Exception as error:  # a trial may fail in any way; the study goes on and shows the cause
        tune.report(pack_report(record_failure(spec, error)))
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def record_failure(spec: TrialSpec, error: Exception) -> TrialFailure:
    """Writes the traceback; where that or the error shows that the storage is at fault, the trial has not failed."""
    folders = spec.folder.path, spec.data.folder
    causes = error.worker_failures.values() if isinstance(error, WorkerGroupError) else [error]
    fault = next((fault for cause in causes if (fault := find_fault(cause, *folders)) is not None), None)
    if fault is None:
        try:
            atomic_files.write_text(spec.folder.error, traceback.format_exc())
        except StorageError as unwritten:
            fault = unwritten
    if fault is not None:
        return TrialFailure(error=str(fault), died=False, of_storage=True)
    return TrialFailure(error=describe_error(error), died=is_death(error))


def is_death(error: BaseException) -> bool:
    """Tells whether a process of a DDP trial died, rather than raised an exception.

    When one dies, the others fail too, as their connections to it break; gloo's errors are plain RuntimeErrors.
    """
    if not isinstance(error, WorkerGroupError):
        return isinstance(error, TrainingFailedError | RayActorError)  # of Ray Train's controller
    return any(
        isinstance(failure, HEALTH_CHECK_ERRORS)
        or (isinstance(failure, RuntimeError) and "gloo" in str(failure))
        or isinstance(failure, torch.distributed.DistBackendError)
        for failure in error.worker_failures.values()
    )


def describe_error(error: BaseException) -> str:
    """Returns one line: the type and the first line of the message; a failed worker's own error for Ray Train's."""
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        error = next(iter(error.worker_failures.values()))
    error = getattr(error, "health_check_failure", error)  # of a WorkerHealthCheckFailedError
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, TrialError):
        return lines[0]
    return f"{type(error).__name__}: {lines[0]}"[:500]


def _train(spec: TrialSpec, worker: Worker, report: Callable[[EpochReport], None], **options: Any) -> None:
    prepare_process(int(spec.request.cpus_per_worker))
    recorder = UsageRecorder(spec.folder.usage, worker.device) if spec.measured and worker.rank == 0 else None
    data, notice = read_nearby(spec.data)

    def send(epoch: EpochReport) -> None:
        nonlocal notice
        if notice is not None:
            epoch, notice = dataclasses.replace(epoch, notice=epoch.notice or notice), None
        if recorder is not None:
            recorder.epoch_ended()
        report(epoch)

    fit(
        spec.config,
        dataclasses.replace(data, stream=_size_stream(spec.request)),
        spec.objective,
        report=send,
        second_objective=spec.second_objective,
        folder=spec.folder,
        worker=worker,
        resume=True,
        num_reported=spec.num_reported,
        **options,
    )


def _size_stream(request: Request) -> RayStream:
    """Sizes the streams of workers that decode their images anew, as if the cluster were full of them."""
    cpus = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
    return RayStream(
        num_tasks=max(1, int(request.cpus_per_worker)), num_streams=max(1, int(cpus / request.cpus_per_worker))
    )


def _train_distributed(spec: TrialSpec) -> None:
    """Runs the loop in a TorchTrainer; workers are spread over nodes where that costs nothing.

    The specification travels pickled, like the reports: Ray Train's controller only hands it on.
    """
    request = spec.request
    resources = {"CPU": request.cpus_per_worker}
    if request.gpus_per_worker:
        resources["GPU"] = request.gpus_per_worker
    with Listener(family="AF_UNIX", backlog=16) as listener, ThreadPoolExecutor(1) as executor:
        pass_on = _PassOn(str(listener.address))
        trainer = ray.train.torch.TorchTrainer(
            _train_worker,
            train_loop_config={"pickled": pickle.dumps(spec)},
            scaling_config=ray.train.ScalingConfig(
                num_workers=request.num_workers,
                use_gpu=request.gpus_per_worker > 0,
                resources_per_worker=resources,
                placement_strategy="SPREAD",
            ),
            run_config=ray.train.RunConfig(
                name=f"trial-{spec.number:04d}-{uuid.uuid4().hex[:8]}",  # else Ray Train restores an earlier process
                storage_path=str(spec.scratch),
                callbacks=[pass_on],  # type: ignore[list-item]
            ),
        )
        training = executor.submit(trainer.fit)
        training.add_done_callback(lambda _: pass_on.send(None))
        while (message := _receive(listener)) is not None:
            tune.report(message)
        training.result()


class _PassOn(ray.train.UserCallback):
    """Sends rank 0's reports from Ray Train's controller to the trial's process, which Ray runs on the same host.

    Ray's own TuneReportCallback has an actor between them that the trial's process asks five times a second: two or
    three hundredths of a core, which the workers lack where all cores are theirs.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def after_report(self, run_context: Any, metrics: list[Message], checkpoint: Any) -> None:
        """Sends rank 0's report; the controller calls it when all workers have reported an epoch."""
        self.send(metrics[0])

    def send(self, message: Message | None) -> None:
        """Sends a message without waiting until it is taken; none: no more will come."""
        with Client(self.address) as connection:
            connection.send(message)


def _receive(listener: Listener) -> Message | None:
    with listener.accept() as connection:
        message: Message | None = connection.recv()
    return message


def _train_worker(config: dict[str, Any]) -> None:
    """Trains as one of the DDP workers."""
    spec: TrialSpec = pickle.loads(config["pickled"])
    context = ray.train.get_context()
    worker = Worker(
        rank=context.get_world_rank(),
        num_workers=context.get_world_size(),
        device=ray.train.torch.get_device(),
    )

    def report(epoch: EpochReport) -> None:
        ray.train.report(pack_report(epoch))
        stop = torch.tensor(int(spec.folder.stop_file.exists()), device=worker.device)
        torch.distributed.broadcast(stop, 0)
        if stop:
            raise StopTrial

    with contextlib.suppress(StopTrial):
        _train(spec, worker, report, prepare=ray.train.torch.prepare_model)
