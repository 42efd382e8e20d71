"""Restores a trial from its last checkpoint that is whole; damaged files are moved aside and said, never removed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from raysweep import atomic_files
from raysweep.atomic_files import Json
from raysweep.data.batches import Worker
from raysweep.errors import CorruptFileError
from raysweep.run_folder import TrialFolder
from raysweep.storage_faults import guard_writing
from raysweep.train import checkpoint
from raysweep.train.state import TrainState, from_tensors


def restore(folder: TrialFolder, state: TrainState, worker: Worker) -> str | None:
    """Brings a fresh state to where the last whole checkpoint stands, if there is one, on all workers the same.

    Rank 0 chooses, and sees to it that `best/` is of the state's best epoch: where that is damaged and the checkpoint
    is not of this epoch, the trial goes on from an earlier one, or begins anew. Returns a sentence on what was damaged,
    on rank 0; none: nothing was.

    Raises:
        StorageError: a damaged file cannot be moved aside.
    """
    candidates = (folder.checkpoint, folder.previous_checkpoint)
    damaged: list[Path] = []
    choice = len(candidates)
    if worker.rank == 0:
        _clear(folder)
        choice = _choose(folder, candidates, state, damaged)
    if worker.num_workers > 1:
        agreed = torch.tensor(choice, device=worker.device)
        torch.distributed.broadcast(agreed, 0)
        choice = int(agreed)
        if worker.rank > 0 and choice < len(candidates):
            checkpoint.load_checkpoint(candidates[choice], state)
    if not damaged:
        return None
    names = " and ".join(str(path) for path in damaged)
    way_on = f"goes on from its epoch {state.epoch}" if state.epoch else "begins anew"
    return f"damaged, and moved aside as *.damaged: {names}; the trial {way_on}"


def _clear(folder: TrialFolder) -> None:
    """Removes what a process that was killed had begun to write."""
    for place in (folder.last, folder.best):
        atomic_files.remove_leftovers(place)


def _choose(folder: TrialFolder, candidates: Sequence[Path], state: TrainState, damaged: list[Path]) -> int:
    """Loads the first candidate from which the trial can go on and returns its place; their number, if there is none.

    Files that are damaged are moved aside and added to `damaged`.
    """
    best = _load(folder.weights, damaged)
    facts: Json = best[1] if best else {"epoch": 0}
    for place, path in enumerate(candidates):
        loaded = _load(path, damaged)
        if loaded is None:
            continue
        values = from_tensors(loaded[1], loaded[0])
        epoch, best_epoch = values["counters"]["epoch"], values["counters"]["best_epoch"]
        if facts["epoch"] == best_epoch or facts["epoch"] > epoch:  # the latter is trained, and written, again
            state.load_state_dict(values)
            return place
        if epoch == best_epoch:
            state.load_state_dict(values)
            checkpoint.save_weights(folder.weights, state.best_modules(), {"epoch": epoch, "value": state.best_value})
            return place
    return len(candidates)


def _load(path: Path, damaged: list[Path]) -> tuple[dict[str, torch.Tensor], Any] | None:
    """Loads a file of tensors; none where there is none, or it is damaged, which moves it aside."""
    if not path.is_file():
        return None
    try:
        return checkpoint.load_tensors(path)
    except CorruptFileError:
        with guard_writing(path):
            path.replace(path.with_name(f"{path.name}.damaged"))
        damaged.append(path)
        return None
