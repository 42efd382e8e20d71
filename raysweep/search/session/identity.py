"""Recognises a run from session to session: its study.json, and whether the study given now is the same."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysweep import atomic_files, config_fields, file_guard
from raysweep.atomic_files import Json
from raysweep.config import DataConfig, TrainingConfig, require
from raysweep.errors import DataError, UsageError
from raysweep.file_guard import FROM_BACKUP
from raysweep.run_folder import RunFolder
from raysweep.search.overrides import Overrides
from raysweep.search.session.storage import has_password, hide_password
from raysweep.study import Study

SCHEMA_VERSION = 1
"""Of study.json; files without one are from before there were versions, and have the keys of version 1."""
COMPARED = (
    "name",
    "task",
    "data",
    "training",
    "space",
    "conditions",
    "objective",
    "second_objective",
    "points",
    "seed",
)
WHAT = "the study of a run"
REMEDY = f"{FROM_BACKUP}, or start a new run with another --name"
DIGESTS = ("task.weights.", "task.code.")
"""Of what trials begin from: runs from before there were any go on with what is there now."""
MAX_SHOWN = 200
"""Letters of a value that a message about a difference shows."""
MOVABLE = frozenset(("data.source", "data.cache"))
"""Images may move, and be kept in another way: their digest says whether they are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Identifies a run from session to session."""

    run_id: str
    """Of the W&B runs, too."""
    study_name: str
    """Of the Optuna study."""
    storage_url: str | None = None
    """Of the Optuna storage, with its password; none: the journal in the run's folder."""
    overrides: Overrides = Overrides()  # noqa: RUF009 - immutable
    study_argument: str | None = None
    """What the study was loaded by: a name in search_spaces/, or the absolute path of its file; none: a program has
    made the study, or an earlier version the run."""

    @property
    def retraining_name(self) -> str:
        """Names the Optuna study in which the finalists are trained again."""
        return f"{self.study_name}-finalists"

    def to_json(self) -> Json:
        """Returns the keys for study.json; a password is left out."""
        return {
            "run_id": self.run_id,
            "optuna": {
                "study_name": self.study_name,
                "storage": None if self.storage_url is None else hide_password(self.storage_url),
            },
            "overrides": config_fields.to_json(self.overrides),
            "study_argument": self.study_argument,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Identity":
        """Builds the identity from the content of study.json."""
        optuna = values["optuna"]
        fields = {"run_id": values["run_id"], "study_name": optuna["study_name"], "storage_url": optuna["storage"]}
        fields |= {"overrides": values["overrides"], "study_argument": values.get("study_argument")}
        identity = config_fields.from_json(Identity, fields)
        if identity.storage_url is not None:
            has_password(identity.storage_url)  # it is a URL
        return identity


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """Holds the content of study.json."""

    study: Mapping[str, Any]
    """The study as resolved: a mapping, as it is compared key by key, also with one of another version."""
    identity: Identity
    """A password in the storage's URL is left out."""
    data_digest: str
    """Of the images."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the libraries, by name."""

    @property
    def data(self) -> DataConfig:
        """Returns where the images come from."""
        return config_fields.from_json(DataConfig, self.study["data"])

    def to_json(self) -> Json:
        """Returns the content of study.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.study,
            **self.identity.to_json(),
            "max_epochs": self.identity.overrides.max_epochs,
            "versions": dict(self.versions),
            "data_digest": self.data_digest,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "StudyRecord":
        """Builds the record from the content of study.json.

        Raises:
            RefusedFileError: a later version wrote it.
            UsageError: it is not valid.
        """
        file_guard.check_version(WHAT, values, SCHEMA_VERSION)
        fields = {"data_digest": values["data_digest"], "versions": values.get("versions", {})}
        record = config_fields.from_json(StudyRecord, {"study": {}, "identity": Identity.from_json(values), **fields})
        study = {name: value for name, value in values.items() if name not in record.to_json()}
        record = dataclasses.replace(record, study=study)
        require(isinstance(study.get("name", ""), str), "a study's name must be text", study.get("name"))
        config_fields.from_json(DataConfig, study.get("data", {"source": "none"}))
        return record


def load_record(run_folder: RunFolder) -> StudyRecord | None:
    """Loads study.json; none when there is no such folder, or its driver died before it wrote that.

    Raises:
        UsageError: the folder has other files, or a later version wrote study.json.
        CorruptFileError: study.json is damaged.
    """
    path = run_folder.path
    with file_guard.guard(run_folder.study, WHAT, REMEDY):  # of a folder that this user may not read
        if not run_folder.study.is_file():
            if path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
                raise UsageError(
                    f"{path} is not the folder of a run: it has no {run_folder.study.name}; give another --name"
                )
            return None
    return file_guard.read_json(run_folder.study, WHAT, REMEDY, StudyRecord.from_json)


def save_record(run_folder: RunFolder, record: StudyRecord) -> None:
    """Writes study.json, atomically."""
    atomic_files.write_json(run_folder.study, record.to_json(), checksum=True)


def load_overrides(run_folder: RunFolder, study_name: str | None = None) -> Overrides:
    """Loads what the command line of the run's earlier sessions changed of its study; None: of whatever study it is.

    Raises:
        UsageError: the run is of another study than that of the name, to which the changes may not apply.
        CorruptFileError: study.json is damaged.
    """
    record = load_record(run_folder)
    if record is not None and study_name is not None:
        check_study_name(run_folder, record, study_name)
    return record.identity.overrides if record else Overrides()


def restore_identity(stored: Identity, url: str | None, overrides: Overrides) -> Identity:
    """Completes the identity in a study.json with the overrides and the storage's URL as it is given now, if it is.

    Raises:
        UsageError: the URL has a password, which is not stored, and is not given.
    """
    known = None if stored.storage_url is None else hide_password(stored.storage_url)
    if url is None and known is not None and has_password(known):
        raise UsageError(f"the run's Optuna storage is {known}: give it again with --optuna-storage, with its password")
    if url is not None and hide_password(url) != known:
        raise UsageError(
            f"the run's Optuna storage is {known or 'the journal in its folder'}, got --optuna-storage "
            f"{hide_password(url)}; leave it out, or start a new run with another --name"
        )
    return dataclasses.replace(stored, storage_url=url or stored.storage_url, overrides=overrides)


def check_study_name(run_folder: RunFolder, stored: StudyRecord, name: str) -> None:
    """Fails on a run that is of another study than that of the name.

    Raises:
        UsageError: it is.
    """
    if stored.study.get("name", name) != name:
        raise UsageError(
            f"{run_folder.path} is a run of the study {stored.study['name']}, got {name}: give that of its start, or "
            "start a new run with another --name"
        )


def check_digest(stored: StudyRecord, source: str, digest: str) -> None:
    """Fails on other images than the run's.

    Raises:
        DataError: the digest of the images of `source` is another.
    """
    if digest != stored.data_digest:
        raise DataError(
            f"the images of {source} are not those of the run: digest {digest[:12]}, "
            f"the run's {stored.data_digest[:12]}; give the same files, or start a new run with another --name"
        )


def describe_changes(before: Mapping[str, Any], study: Study) -> list[str]:
    """Lists `key: before -> now` for all that makes a study search differently than one that study.json has.

    A field that the version that wrote it had not is there at its default, as for the trials that go on.
    """
    now = json.loads(json.dumps(study.to_json()))
    kinds: dict[str, type[Any]] = {"task": type(study.task), "data": DataConfig, "training": TrainingConfig}
    completed = {name: _complete(before[name], now[name], kind) for name, kind in kinds.items() if name in before}
    before = {**before, **completed}
    old, new = _flatten({key: before.get(key) for key in COMPARED}), _flatten({key: now[key] for key in COMPARED})
    return [
        f"{key}: {old.get(key, 'not there')[:MAX_SHOWN]} -> {new.get(key, 'not there')[:MAX_SHOWN]}"
        for key in sorted(old.keys() | new.keys())
        if key not in MOVABLE
        and (key not in old or key not in new or old[key] != new[key])
        and not (key not in old and key.startswith(DIGESTS))
    ]


def _complete(stored: Any, now: Json, kind: type[Any]) -> Any:
    """Adds the fields that an earlier version had not, with their defaults; leaves what is no such configuration."""
    if not isinstance(stored, dict) or stored.get("kind") != now.get("kind"):
        return stored
    try:
        completed = config_fields.to_json(config_fields.from_json(kind, stored))
    except UsageError:
        return stored
    return {key: completed.get(key, stored.get(key)) for key in now}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Maps dotted keys to leaves as text; a distribution is one leaf."""
    if isinstance(value, dict) and value.keys() == {"name", "attributes"} and isinstance(value["attributes"], dict):
        arguments = ", ".join(f"{key}={argument!r}" for key, argument in value["attributes"].items())
        return {prefix: f"{value['name']}({arguments})"}
    if not isinstance(value, dict):
        return {prefix: json.dumps(value)}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        leaves |= _flatten(item, f"{prefix}.{key}" if prefix else key)
    return leaves
