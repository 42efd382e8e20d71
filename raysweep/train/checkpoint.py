"""Writes and reads checkpoints: one safetensors file each, with a digest of its content; nothing is pickled.

`best/model.safetensors` has the modules to use; `last/checkpoint.safetensors` the whole state of training.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from raysweep import atomic_files, file_guard
from raysweep.atomic_files import Json
from raysweep.errors import CorruptFileError
from raysweep.train.state import TrainState, from_tensors, to_tensors


def save_checkpoint(path: Path, state: TrainState, previous: Path | None = None) -> None:
    """Writes the whole state of training, atomically; the file that was there becomes `previous`, if that is given."""
    tensors: dict[str, torch.Tensor] = {}
    plain = to_tensors(state.state_dict(), tensors)
    save_tensors(path, tensors, plain, previous)


def load_checkpoint(path: Path, state: TrainState) -> None:
    """Brings a freshly built state to where the one in the file stood.

    Raises:
        CorruptFileError: the file does not match its digest.
    """
    tensors, plain = load_tensors(path)
    state.load_state_dict(from_tensors(plain, tensors))


def save_weights(path: Path, modules: dict[str, nn.Module], facts: Json) -> None:
    """Writes the parameters and buffers of some modules, with JSON facts such as the epoch, atomically."""
    save_tensors(path, collect_weights(modules), facts)


def collect_weights(modules: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Returns the parameters and buffers of some modules, as `save_weights` names them; they share their memory."""
    return {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def load_weights(path: Path, modules: dict[str, nn.Module]) -> Json:
    """Fills the modules from a file of `save_weights` and returns its facts.

    Raises:
        CorruptFileError: the file does not match its digest.
    """
    tensors, facts = load_tensors(path)
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        )
    assert isinstance(facts, dict)
    return facts


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], facts: Any, previous: Path | None = None) -> None:
    """Writes tensors and JSON facts to one safetensors file with a digest over both, atomically.

    Raises:
        StorageError: the storage does not take it.
    """
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    metadata = {"facts": text, "digest": digest_tensors(own, text)}
    size_bytes = len(text) + sum(tensor.nbytes for tensor in own.values())
    atomic_files.write_atomically(
        path, lambda temporary: _save_file(own, temporary, metadata), size_bytes=size_bytes, previous=previous
    )


def _save_file(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Calls safetensors, whose errors have the system's number in their text only."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Loads the tensors and facts of a file of `save_tensors`.

    Raises:
        CorruptFileError: the file is damaged or does not match its digest.
    """
    with (
        file_guard.guard(path, "tensors", "remove it, or take a copy of it from a backup"),
        safe_open(path, framework="pt") as file,
    ):
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if digest_tensors(tensors, metadata.get("facts", "")) != metadata.get("digest"):
        raise CorruptFileError(f"{path} does not match its digest; remove it, or take a copy of it from a backup")
    return tensors, json.loads(metadata["facts"])


def digest_tensors(tensors: dict[str, torch.Tensor], text: str) -> str:
    """Computes SHA-256 over names, types, shapes and contents of tensors and a text."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return digest.hexdigest()
