"""Pretrained weights: read from a file, the Hugging Face hub or timm, kept by their digest, fitted to a network.

The driver puts them into the cache that all nodes share, so that no node needs a network, or the file.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from raysweep import atomic_files, file_guard
from raysweep.errors import UsageError, first_line
from raysweep.storage_faults import guard_writing
from raysweep.tasks.classification.config import HUB, HUB_FILES, WEIGHTS_FOLDER, ClassificationConfig
from raysweep.train import checkpoint

Tensors = Mapping[str, torch.Tensor]
WHOLE = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "module")
"""Entries of a torch file under which trainings keep the weights, averaged ones first."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
"""What wrappers put before every name."""
OWN_PREFIX = "model/backbone."
"""Before the names of a network's tensors in best/model.safetensors of a run."""


def fetch_weights(config: ClassificationConfig, cache: Path) -> str:
    """Puts the weights that a configuration starts from into the cache, and returns their digest.

    A file is read each time; of the hub those are taken that were fetched before, without a network.

    Raises:
        UsageError: they cannot be had.
    """
    folder = cache / WEIGHTS_FOLDER
    named = [config.model, str(config.pretrained), sorted(config.model_args.items())]
    index = folder / f"{hashlib.sha256(repr(named).encode()).hexdigest()[:16]}.json"
    is_remote = config.pretrained is True or str(config.pretrained).startswith(HUB)
    if is_remote and index.is_file():
        known: str = file_guard.read_json(index, "the digest of pretrained weights", "remove it", _get_digest)
        if locate_weights(folder, known).is_file():
            return known
    tensors = read_origin(config)
    digest = checkpoint.digest_tensors(dict(tensors), "null")
    with guard_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not locate_weights(folder, digest).is_file():
        checkpoint.save_tensors(locate_weights(folder, digest), dict(tensors), None)
    atomic_files.write_json(index, {"weights": config.weights_name, "digest": digest}, checksum=True)
    return digest


def _get_digest(values: Mapping[str, Any]) -> str:
    return str(values["digest"])


def locate_weights(folder: Path, digest: str) -> Path:
    """Locates the file of the weights that have this digest."""
    return folder / f"{digest[:32]}.safetensors"


def load_pretrained(config: ClassificationConfig, folder: Path | None) -> Tensors:
    """Loads the weights that a configuration starts from: out of a folder of fetched ones, else from their origin.

    Raises:
        UsageError: they cannot be had, or are not those that the run began with.
    """
    expected = config.weights.get(config.weights_name)
    if folder is not None and expected is not None and locate_weights(folder, expected).is_file():
        return checkpoint.load_tensors(locate_weights(folder, expected))[0]
    tensors = read_origin(config)
    digest = checkpoint.digest_tensors(dict(tensors), "null")
    if expected not in (None, digest):
        raise UsageError(
            f"the weights {config.weights_name} must be those that the run began with, of SHA-256 "
            f"{str(expected)[:12]}, got {digest[:12]}; give the same file, or start a new run with another --name"
        )
    return tensors


def read_origin(config: ClassificationConfig) -> Tensors:
    """Reads weights from where the configuration says.

    Raises:
        UsageError: they cannot be had.
    """
    if config.pretrained is True:
        return _read_timm(config)
    assert isinstance(config.pretrained, str)
    if config.pretrained.startswith(HUB):
        with _explain(config):
            return read_file(_download(config.pretrained.removeprefix(HUB)))
    path = config.locate_weights_file()
    assert path is not None
    return read_file(path)


def read_file(path: Path) -> Tensors:
    """Reads the tensors of a safetensors or torch file, without what wrappers and trainings put around them.

    Nothing in the file is run: of a torch file plain tensors are taken, and no pickled objects.

    Raises:
        UsageError: it is no such file.
    """
    try:
        with path.open("rb") as file:
            is_torch = file.read(2) in (b"PK", b"\x80\x02")
        content: Any = torch.load(path, map_location="cpu", weights_only=True) if is_torch else load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"weights must be a safetensors or torch file, got {path}: {error}") from None
    except Exception as error:  # torch has many, for whatever else a file holds
        reason = first_line(error, 200)
        raise UsageError(
            f"weights must be tensors alone, no pickled objects, got {path}: {reason}; save them again by "
            "torch.save(model.state_dict(), PATH) where you know who made the file"
        ) from None
    while isinstance(content, Mapping) and (name := next((name for name in WHOLE if name in content), None)):
        if not isinstance(content[name], Mapping):
            break
        content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UsageError(f"weights must be tensors by name, got other things in {path}; save model.state_dict() alone")
    return _strip(content, path)


def _strip(tensors: Tensors, path: Path) -> Tensors:
    """Takes the prefixes that all names have off; of a run's own model it takes the network without its head."""
    if any(name.startswith(OWN_PREFIX) for name in tensors):
        return {name.removeprefix(OWN_PREFIX): value for name, value in tensors.items() if name.startswith(OWN_PREFIX)}
    while tensors and (prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), None)):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    if not tensors:
        raise UsageError(f"weights must be tensors by name, got none in {path}")
    return tensors


def _read_timm(config: ClassificationConfig) -> Tensors:
    import timm

    with _explain(config):
        published = timm.get_pretrained_cfg(config.model)
        if published is not None and published.hf_hub_id:
            names = [published.hf_hub_filename] if published.hf_hub_filename else HUB_FILES[:2]
            _check_connection(published.hf_hub_id, names)
        return timm.create_model(config.model, pretrained=True, **config.model_args).state_dict()


@contextlib.contextmanager
def _explain(config: ClassificationConfig) -> Iterator[None]:
    """Makes whatever keeps weights from being had a UsageError that says what to do."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = first_line(error, 200)
        where = "" if config.pretrained is True else f" of {config.pretrained}"
        raise UsageError(
            f"the pretrained weights of {config.model}{where} cannot be had: {reason}\n"
            "They are fetched from the Hugging Face hub once and kept in the storage's .cache/weights and in the hub's "
            "own cache (HF_HOME). Fetch them where there is a network by `raysweep fetch STUDY` or copy that cache "
            "here, give a file by --set task.pretrained=PATH, or train from scratch with --set task.pretrained=false"
        ) from error


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = name.partition("@")
    _check_connection(name, HUB_FILES)
    for file in HUB_FILES:
        with contextlib.suppress(EntryNotFoundError):
            return Path(hf_hub_download(repository, file, revision=revision or None))
    raise UsageError(f"{HUB}{repository} has no file of weights, {' or '.join(HUB_FILES)}; give another repository")


def _check_connection(name: str, files: tuple[str, ...] | list[str]) -> None:
    """Raises what the hub's client raises where there is no connection and no cached copy.

    It does so at once: a download without a connection is tried again for most of a minute.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = name.partition("@")
    for file in files:
        if isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str):
            return
    with contextlib.suppress(HfHubHTTPError):
        get_hf_file_metadata(hf_hub_url(repository, files[0], revision=revision or None))
