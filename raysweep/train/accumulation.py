"""Trains on a batch in parts, where the device's memory does not hold it at once. No Ray.

The gradients of the parts add up to those of the whole batch, so that optimizer, schedule, average and mixed labels see
no difference; batch norm does, which computes its statistics of each part alone, and so do draws of dropout and noise.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from raysweep.data.batches import Batch
from raysweep.data.mixing import Mixing
from raysweep.registry import load_object
from raysweep.train.history import NUM_PARTS
from raysweep.train.state import TrainState
from raysweep.trial_config import TrialConfig

if TYPE_CHECKING:
    from raysweep.train.task import Task

MIN_AT_ONCE = 4
"""Images of a part: with fewer, batch norm learns nothing, and what fills the memory are the weights."""


def choose_num_parts(config: TrialConfig, num_parts: int, num_workers: int) -> int | None:
    """Chooses twice as many parts; none: they would be too small, or the task trains its networks in its own way.

    A GAN's generator learns from the discriminator as the whole batch has left it: its step cannot be added up.
    """
    from raysweep.train.task import Task

    if load_object(config.task.task).train_step is not Task.train_step:
        return None
    return 2 * num_parts if config.training.batch_size // num_workers >= 2 * num_parts * MIN_AT_ONCE else None


def describe_parts(num_parts: int) -> dict[str, float]:
    """Returns what the metrics of an epoch say of the parts: nothing where a step was one."""
    return {NUM_PARTS: float(num_parts)} if num_parts > 1 else {}


def recall_num_parts(history: Sequence[Mapping[str, float]], num_parts: int) -> int:
    """Returns the number of parts with which training goes on after these epochs."""
    return max(num_parts, int(history[-1].get(NUM_PARTS, 1)) if history else 1)


def accumulate(task: "Task", state: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
    """Takes one step down the gradient of the whole batch, shown part by part; returns means over it, detached."""
    name = task.main_module
    state.optimizers[name].zero_grad(set_to_none=True)
    means: dict[str, torch.Tensor] = {}
    parts = split_batch(batch, task.num_parts)
    for index, part in enumerate(parts):
        with _defer_averaging(state.prepared.values(), until=index == len(parts) - 1):
            losses = task.compute_loss(state, part)
            (losses["loss"] * part.weight).backward()  # type: ignore[no-untyped-call]
        share = len(part.labels) / len(batch.labels)
        means = {key: means.get(key, 0.0) + value.detach() * share for key, value in losses.items()}
    task.apply_gradients(state, name)
    return means


def split_batch(batch: Batch, num_parts: int) -> list[Batch]:
    """Splits a batch into so many parts of equal sizes, or fewer of two images; their weights add up to its own."""
    num_images = len(batch.labels)
    num_parts = max(1, min(num_parts, num_images // 2))
    ends = [num_images * index // num_parts for index in range(num_parts + 1)]
    return [_take(batch, slice(*ends[index : index + 2])) for index in range(num_parts)]


def _take(batch: Batch, rows: slice) -> Batch:
    labels = batch.labels[rows]
    mixing = batch.mixing and Mixing(batch.mixing.labels[rows], batch.mixing.shares[rows])
    weight = batch.weight * len(labels) / len(batch.labels)
    return Batch(batch.images[rows], labels, batch.indices[rows], weight, mixing)


@contextlib.contextmanager
def _defer_averaging(modules: Iterable[nn.Module], *, until: bool) -> Iterator[None]:
    """Has DDP average gradients at the last part alone: workers may have unlike numbers of parts."""
    with contextlib.ExitStack() as stack:
        for module in () if until else modules:
            if isinstance(module, nn.parallel.DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield
