"""Publishes a run's best model: its files and a card, in a folder or on the Hugging Face hub."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any

import torch

from raysweep import atomic_files
from raysweep.errors import RaysweepError, UsageError, first_line
from raysweep.evaluate.stored_model import load_best
from raysweep.kept_model import check_complete, seal_model
from raysweep.publish.card import name_data, write_card
from raysweep.run_folder import RunFolder
from raysweep.search.results import load_results
from raysweep.task_config import TaskConfig
from raysweep.trial_record import load_config, save_config

HUB = "hf:"
CARD = "README.md"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Published:
    """Says where a model is now."""

    place: str
    """The folder, or the address of the commit on the hub."""


class PublishError(RaysweepError):
    """The hub does not take a model."""


def publish_run(run_folder: RunFolder, to: str, *, license_name: str | None = None, public: bool = False) -> Published:
    """Writes model and card to the folder `to`, or pushes them to the repository of `hf:OWNER/NAME`.

    Images are never part of it, nor where they lie. A repository that is not there yet is made, private unless
    `public`; one that is there keeps who may see it.

    Raises:
        UsageError: the run is not finished, or `to` is neither a new folder nor a repository's name.
        CorruptFileError: a file of `best/` is damaged, or another than was kept.
        PublishError: the hub does not take it.
    """
    if to.startswith(HUB):
        repository = to.removeprefix(HUB)
        if not _NAME.fullmatch(repository):
            raise UsageError(f"--to hf:OWNER/NAME needs owner and name of a repository, got {to!r}")
        with tempfile.TemporaryDirectory() as draft:
            _write(run_folder, Path(draft), license_name)
            return Published(_push(Path(draft), repository, public=public))
    if public:
        raise UsageError(f"--public is of a repository on the hub, got --to {to}; give --to hf:OWNER/NAME")
    folder = Path(to).expanduser().resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"--to must be a new or an empty folder, or hf:OWNER/NAME, got {to}; give another one")
    _write(run_folder, folder, license_name)
    return Published(str(folder))


def _write(run_folder: RunFolder, folder: Path, license_name: str | None) -> None:
    """Writes the card, and `best/` as a run has it, so that `predict` takes the folder for one."""
    results = load_results(run_folder)
    check_complete(run_folder.best)
    model = load_best(run_folder, torch.device("cpu"))
    target = RunFolder(folder).best
    for source in (run_folder.best.weights, run_folder.best.detector, *run_folder.best.list_code()):
        if source.is_file():
            atomic_files.copy_file(source, target.path / source.relative_to(run_folder.best.path))
    record = load_config(run_folder.best.config)
    config = replace(
        record.config,
        task=_without_paths(record.config.task),
        data=replace(record.config.data, source=name_data(record.config.data.source)),
    )
    info = replace(record.info, source=name_data(record.info.source), skipped=(), notes=())
    params = {key: _without_folder(value) for key, value in record.params.items()}
    save_config(target.config, record.number, config, info, params, record.finalist, record.number_format)
    seal_model(target)
    published = replace(model, config=replace(model.config, task=config.task))
    atomic_files.write_text(folder / CARD, write_card(results, published, license_name=license_name))


def _without_paths(task: TaskConfig) -> TaskConfig:
    """Leaves files of code and weights their names, without the folders where they lay.

    What `--resume` compares of weights is of no use here, and names them too.

    Raises:
        UsageError: two of the files have one name.
    """
    own: Any = task  # a dataclass, as all of them are
    values = {field.name: _without_folder(getattr(own, field.name)) for field in fields(own)}
    if "weights" in values:
        values["weights"] = {}
    if "code" in values and len(values["code"]) < len(own.code):
        names = ", ".join(own.code)
        raise UsageError(f"files of code that go along must have different names, got {names}; rename one")
    without: TaskConfig = replace(own, **values)
    return without


def _without_folder(value: Any) -> Any:
    """Takes the folder off each absolute path in a value; code that is named keeps its name behind it."""
    if isinstance(value, Mapping):
        return {_without_folder(key): _without_folder(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_folder(part) for part in value)
    return PurePath(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _push(folder: Path, repository: str, *, public: bool) -> str:
    """Pushes a folder in one commit to the hub that HF_ENDPOINT names; returns the commit's address."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi(library_name="raysweep")
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Publish the best model of a raysweep run"
        )
    except LocalTokenNotFoundError as error:
        raise UsageError("to publish on the hub, log in with `hf auth login`, or set HF_TOKEN") from error
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        reason = first_line(error)
        raise PublishError(
            f"{api.endpoint} does not take {repository}: {reason}; is HF_TOKEN one that may write?"
        ) from error
    return str(commit.commit_url)
