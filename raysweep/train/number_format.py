"""Measures in which numbers and memory layout a network trains fastest: what `training.precision=auto` takes.

Units for bf16 do not make it faster for every network: of small or depthwise convolutions the conversions cost more
than they save.
"""

import copy
import dataclasses
import hashlib
import os
import platform
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed

from raysweep import atomic_files, config_fields, file_guard
from raysweep.data.batches import Ingredients, Worker
from raysweep.data.images import DataInfo, PreparedData
from raysweep.run_folder import SearchFolder, TrialFolder
from raysweep.storage_faults import guard_writing
from raysweep.train.device import is_out_of_memory, release_memory
from raysweep.train.precision import resolve_precision
from raysweep.train.state import TrainState
from raysweep.train.step import NUM_EAGER, CudaRecorder, StepRunner, records_graphs
from raysweep.train.task import Task, build_task
from raysweep.trial_config import TrialConfig
from raysweep.trial_record import NumberFormat, load_trial, save_config

MARGIN = 1.05
"""What is named first in CANDIDATES is taken unless another one is faster by more than this factor."""
BUDGET_S = 0.35
"""Of measuring one candidate, after the steps that are not counted; at least one step more is taken."""
MAX_STEPS = 10
MAX_VALUES = 32 * 3 * 128 * 128
"""Of a batch on CPUs, which are as fast with fewer images."""
Candidate = tuple[Literal["fp32", "bf16"], bool]
CANDIDATES: tuple[Candidate, ...] = (("fp32", True), ("fp32", False), ("bf16", True), ("bf16", False))
"""Precision, and whether channels are last: of equals the more exact one, and the usual layout."""


def find_formats(run: SearchFolder) -> Path | None:
    """Finds where a run keeps the formats of its networks, and makes the folder for one that begins.

    None: an earlier version began the run, which measured nothing: it goes on as it was.
    """
    formats = run.number_formats
    search = SearchFolder(formats.parent)  # finalists and replays have the formats of their search
    if not formats.exists() and not any(trial.metrics.exists() for trial in search.list_trials()):
        atomic_files.make_folder(formats)
    return formats if formats.exists() else None


def settle_format(
    config: TrialConfig, data: PreparedData, worker: Worker, folder: TrialFolder, formats: Path | None
) -> tuple[TrialConfig, str | None]:
    """Settles what `precision=auto` is for a trial's network, and says so where that was measured just now.

    The first trial of a network measures and keeps what it found in `formats`, for all trials of the run and for
    --resume; rank 0 writes it into the trial's own configuration, too, for whatever uses the model. Without units for
    bf16 there is nothing to choose.

    Returns:
        The configuration to train with, and a sentence for a person or none.
    """
    if formats is None or config.training.precision != "auto":
        return config, None
    held: list[tuple[NumberFormat, bool] | None] = [None]
    if worker.rank == 0 and resolve_precision("auto", worker.device) != "fp32":
        held[0] = _find_format(config, data, worker, formats)
    if worker.num_workers > 1:  # rank 0 decides for all: another one's processor may be another
        torch.distributed.broadcast_object_list(held, 0, device=worker.device)
    if held[0] is None:
        return config, None
    chosen, is_new = held[0]
    if worker.rank == 0:
        record = load_trial(folder)
        save_config(folder.config, record.number, record.config, record.info, record.params, record.finalist, chosen)
    return chosen.apply(config), _describe(chosen) if is_new else None


def _find_format(config: TrialConfig, data: PreparedData, worker: Worker, formats: Path) -> tuple[NumberFormat, bool]:
    """Finds the format of the run for a network, and whether it was measured just now."""
    path = formats / f"{name_network(config, data.info)}.json"
    is_new = False
    if not path.exists():
        is_new = _keep_first(path, measure_format(config, data, worker))
        release_memory()
    remedy = "remove it, and it is measured again"
    decode = partial(config_fields.from_json, NumberFormat)
    kept: NumberFormat = file_guard.read_json(path, "the number format of a network", remedy, decode)
    return kept, is_new


def measure_format(config: TrialConfig, data: PreparedData, worker: Worker) -> NumberFormat:
    """Trains a few steps of each candidate on noise, and returns the fastest; the trial begins as if it had not."""
    # So many epochs that no schedule ends while steps are timed, however short the trial is.
    training = dataclasses.replace(config.training, epochs=max(config.training.epochs, NUM_EAGER + MAX_STEPS + 2))
    config = dataclasses.replace(config, training=training)
    task = build_task(config, data.info, 1, data.folder)
    batch = _draw_batch(config, data.info, worker)
    may_change = config.training.channels_last
    formats = {"fp32", resolve_precision("auto", worker.device)}
    try:
        state = task.init_state(Worker(device=worker.device), lambda module: module)
        speeds = {
            candidate: len(batch.indices) / _time_step(task, state, batch, candidate, config, data, worker)
            for candidate in CANDIDATES
            if (may_change or not candidate[1]) and candidate[0] in formats
        }
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return NumberFormat(precision="bf16", channels_last=may_change)  # what takes less of it, not measured
    fastest = max(speeds.values())
    precision, channels_last = next(name for name, speed in speeds.items() if speed * MARGIN >= fastest)
    return NumberFormat(
        precision=precision,
        channels_last=channels_last,
        images_per_s={_name(*candidate): round(speed, 1) for candidate, speed in speeds.items()},
        machine=_describe_machine(worker.device),
    )


def name_network(config: TrialConfig, info: DataInfo) -> str:
    """Names a network by what decides about its speed: the shapes of its weights and the side of the images."""
    task = build_task(config, info)
    try:
        with torch.device("meta"):
            modules = task.load_modules()
    except Exception:  # one that reads values while it is built; its shapes are the same
        modules = task.load_modules()
    shapes = [
        (part, name, type(module).__name__, [tuple(weight.shape) for weight in module.parameters(recurse=False)])
        for part, whole in sorted(modules.items())
        for name, module in whole.named_modules()
    ]
    return hashlib.sha256(repr((config.data.image_size, shapes)).encode()).hexdigest()[:16]


def _time_step(
    task: Task,
    state: TrainState,
    batch: Ingredients,
    candidate: Candidate,
    config: TrialConfig,
    data: PreparedData,
    worker: Worker,
) -> float:
    """Times a training step in seconds, as trials run it, the fastest of some, on a copy of the state."""
    precision, channels_last = candidate
    task, state = copy.copy(task), copy.deepcopy(state)
    task.training = dataclasses.replace(task.training, precision=precision, channels_last=channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for module in state.modules.values():
        module.to(memory_format=layout).train()
    recorder = CudaRecorder(worker.device) if records_graphs(task, config, worker) else None
    runner = StepRunner(task, state, data.train, config, worker, recorder=recorder)
    num_uncounted = NUM_EAGER + 1 if recorder else 1
    durations_s: list[float] = []
    while not durations_s or (len(durations_s) < MAX_STEPS and sum(durations_s) < BUDGET_S):
        began = time.perf_counter()
        runner.run(batch, 0)
        if worker.device.type == "cuda":
            torch.cuda.synchronize(worker.device)
        if num_uncounted:
            num_uncounted -= 1
        else:
            durations_s.append(time.perf_counter() - began)
    return min(durations_s)


def _draw_batch(config: TrialConfig, info: DataInfo, worker: Worker) -> Ingredients:
    """Draws a worker's share of a batch of noise, on its device."""
    shape = config.data.image_size, config.data.image_size, config.data.channels
    num_images = max(2, config.training.batch_size // worker.num_workers)
    if worker.device.type == "cpu":
        num_images = max(2, min(num_images, MAX_VALUES // int(np.prod(shape))))
    pixels = torch.randint(256, (num_images, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = np.arange(num_images)
    labels = torch.from_numpy(rows % len(info.classes))
    return Ingredients({"pixels": pixels.to(worker.device), "labels": labels.to(worker.device)}, rows)


def _keep_first(path: Path, found: NumberFormat) -> bool:
    """Writes the file unless another trial has meanwhile: the first one holds, on whichever node it was measured.

    Returns whether this is the first.
    """
    own = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}")
    atomic_files.write_json(own, config_fields.to_json(found), checksum=True)
    with guard_writing(path):
        try:
            os.link(own, path)
        except FileExistsError:
            return False
        finally:
            own.unlink()
    return True


def _name(precision: str, channels_last: bool) -> str:
    return f"{precision}, {'channels last' if channels_last else 'contiguous'}"


def _describe(chosen: NumberFormat) -> str:
    speeds = "; ".join(f"{name}: {speed:g} images/s" for name, speed in chosen.images_per_s.items())
    how = f"as measured on {chosen.machine} ({speeds})" if speeds else "not measured, as memory ran out"
    return (
        f"training.precision=auto is {_name(chosen.precision, chosen.channels_last)} for this network, in all of the "
        f"run, {how}"
    )


def _describe_machine(device: torch.device) -> str:
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return f"{platform.node()}, {on}"
