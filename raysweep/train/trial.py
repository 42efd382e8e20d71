"""Runs one trial on Ray: in the trial's own process, or as DDP through Ray Train. The loop is the same."""

import contextlib
import dataclasses
import functools
import gc
import itertools
import os
import pickle
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

from raysweep.cluster.capacity import Request, count_per_gpu
from raysweep.config import Objective
from raysweep.data.batches import Worker
from raysweep.data.images import PreparedData
from raysweep.data.node_copies import read_nearby
from raysweep.data.stream import RayStream
from raysweep.registry import load_object
from raysweep.run_folder import TrialFolder
from raysweep.train.accumulation import choose_num_parts
from raysweep.train.device import choose_device, forget_frames, is_out_of_memory, release_memory
from raysweep.train.loop import fit
from raysweep.train.number_format import settle_format
from raysweep.train.precision import prepare_process
from raysweep.train.report import EpochReport, Message, StopTrial, TrialFailure, obey, pack_report, read_order
from raysweep.train.trial_failure import record_failure
from raysweep.train.usage import UsageRecorder
from raysweep.trial_config import TrialConfig

NUM_FREEZES = 2
"""Trials of a process that begin with setting aside what lives for good, which each collection would visit: half a
million objects of the first imports, then what the first trial has imported. No trial's own are among them by then."""
_begun = itertools.count()


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
    num_parts: int = 1
    """In how many parts, at least, the images of a step are shown: more than one where memory has run out."""
    notice: str | None = None
    """What its first report is to say of it."""
    number_formats: Path | None = None
    """Where the run keeps what `training.precision=auto` is; none: that is not measured."""

    def spare_memory(self) -> "TrialSpec | None":
        """Returns the same trial with less memory to be trained in, and a notice of it; none: there is no such way.

        Where its steps may have been CUDA graphs, they are run eagerly; else the images of a step come in more parts.
        """
        if self._may_record:
            training = dataclasses.replace(self.config.training, cuda_graphs=False)
            config = dataclasses.replace(self.config, training=training)
            notice = "out of memory: steps are run eagerly, as CUDA graphs keep memory of their own"
            return dataclasses.replace(self, config=config, notice=notice)
        num_parts = choose_num_parts(self.config, self.num_parts, self.request.num_workers)
        return None if num_parts is None else self._split(num_parts)

    @property
    def _may_record(self) -> bool:
        task = self.config.task
        on_gpu = self.request.num_workers == 1 and self.request.gpus_per_worker > 0
        return on_gpu and self.config.training.cuda_graphs is not False and load_object(task.task).can_record(task)

    def _split(self, num_parts: int) -> "TrialSpec":
        batch = -(-self.config.training.batch_size // self.request.num_workers)
        notice = (
            f"out of memory: {-(-batch // num_parts)} of a step's {batch} images are shown at once; gradients add "
            "up to those of the whole batch; batch norm sees each part alone"
        )
        return dataclasses.replace(self, num_parts=num_parts, notice=notice)


def run_trial(config: dict[str, Any]) -> None:
    """Trains `config["spec"]`, as Ray Tune's trainable, and reports each epoch, or the cause of its failure.

    It goes on from the checkpoint that an earlier process of the trial left in its folder. A process whose CUDA context
    an error has poisoned ends once the driver knows: Ray Tune would use it for the next trial.
    """
    spec: TrialSpec = config["spec"]
    release_memory()
    if next(_begun) < NUM_FREEZES:
        gc.freeze()
    try:
        failure = _train_within_memory(spec)
    except SystemExit as stop:  # raised by Ray in a trial that is to stop
        forget_frames(stop)
        raise
    finally:
        release_memory()
    if failure is not None:
        tune.report(pack_report(failure))
        if failure.died and spec.request.num_workers == 1:
            os._exit(1)


def _train_within_memory(spec: TrialSpec) -> TrialFailure | None:
    """Trains; whenever the memory runs out, again from the last checkpoint in a way that takes less of it."""
    while True:
        try:
            if spec.request.num_workers == 1:
                device = choose_device(spec.request.gpus_per_worker)
                worker = Worker(device=device, num_sharing=count_per_gpu(spec.request))
                _train(spec, worker, functools.partial(_report_to_tune, spec.folder))
            else:
                _train_distributed(spec)
            return None
        except Exception as error:  # a trial may fail in any way; the study goes on and shows the cause
            spared = spec.spare_memory() if is_out_of_memory(error) else None
            failure = record_failure(spec.folder, spec.data.folder, error) if spared is None else None
            forget_frames(error)
        if spared is None:
            return failure
        spec = spared
        release_memory()


def _report_to_tune(folder: TrialFolder, report: EpochReport) -> None:
    """Reports an epoch and waits until the driver has decided.

    Raises:
        StopTrial: the trial is to stop.
    """
    tune.report(pack_report(report))
    obey(read_order(folder))


def _train(spec: TrialSpec, worker: Worker, report: Callable[[EpochReport], None], **options: Any) -> None:
    prepare_process(int(spec.request.cpus_per_worker))
    config, notice = settle_format(spec.config, spec.data, worker, spec.folder, spec.number_formats)
    data, reading_notice = read_nearby(spec.data)
    notices = list(filter(None, [spec.notice, reading_notice, notice]))
    recorder = UsageRecorder(spec.folder.usage, worker.device) if spec.measured and worker.rank == 0 else None

    def send(epoch: EpochReport) -> None:
        if recorder is not None:
            recorder.epoch_ended()
        while notices:
            epoch = epoch.add_notice(notices.pop())
        report(epoch)

    with contextlib.suppress(StopTrial):
        fit(
            config,
            data if data.train.is_decoded else dataclasses.replace(data, stream=_size_stream(spec.request)),
            spec.objective,
            report=send,
            second_objective=spec.second_objective,
            folder=spec.folder,
            worker=worker,
            resume=True,
            num_reported=spec.num_reported,
            num_parts=spec.num_parts,
            **options,
        )


def _size_stream(request: Request) -> RayStream:
    """Sizes the streams of workers that decode their images anew, as if the cluster were full of them."""
    cpus = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
    return RayStream(
        num_actors=max(1, int(request.cpus_per_worker)), num_streams=max(1, int(cpus / request.cpus_per_worker))
    )


def _train_distributed(spec: TrialSpec) -> None:
    """Runs the loop in a TorchTrainer; workers on CPUs are spread over nodes, those on GPUs are on as few as hold them.

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
                placement_strategy=choose_placement(request),
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


def choose_placement(request: Request) -> str:
    """Chooses where Ray puts the workers of a trial: GPUs of one node exchange gradients many times as fast."""
    return "PACK" if request.gpus_per_worker else "SPREAD"


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
    choose_device(spec.request.gpus_per_worker)
    worker = Worker(
        rank=context.get_world_rank(),
        num_workers=context.get_world_size(),
        device=ray.train.torch.get_device(),
        num_sharing=count_per_gpu(spec.request),
    )

    def report(epoch: EpochReport) -> None:
        ray.train.report(pack_report(epoch))
        order = torch.tensor(int(read_order(spec.folder)), device=worker.device)
        torch.distributed.broadcast(order, 0)
        obey(int(order))

    _train(spec, worker, report, prepare=ray.train.torch.prepare_model)
