"""Going on with a run: what its study.json says, and whether the study given now is the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep import config_fields as fields
from raysweep.errors import DataError, UsageError
from raysweep.search.overrides import Overrides
from raysweep.search.session.storage import has_password, hide_password

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
MOVABLE = "data.source"
"""Images may move: their digest says whether they are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a run keeps of itself from session to session."""

    run_id: str
    """Of the W&B runs, too."""
    study_name: str
    """Of the Optuna study."""
    storage_url: str | None = None
    """Of the Optuna storage, with its password; none: the journal in the run's folder."""
    overrides: Overrides = Overrides()  # noqa: RUF009 - immutable

    def to_json(self) -> dict[str, Any]:
        """For study.json; a password is left out."""
        return {
            "run_id": self.run_id,
            "optuna": {
                "study_name": self.study_name,
                "storage": None if self.storage_url is None else hide_password(self.storage_url),
            },
            "overrides": fields.to_json(self.overrides),
        }


def load_stored(run: Path) -> dict[str, Any] | None:
    """study.json of a run's folder; none when there is no such folder, or its driver died before it wrote that.

    Raises:
        UsageError: the folder has other files.
    """
    if not (run / "study.json").is_file():
        if run.is_dir() and any(not path.name.startswith(".") for path in run.iterdir()):
            raise UsageError(f"{run} is not the folder of a run: it has no study.json; give another --name")
        return None
    stored: dict[str, Any] = json.loads((run / "study.json").read_text(encoding="utf-8"))
    return stored


def load_overrides(run: Path) -> Overrides:
    """What the command line of the run's earlier sessions changed of its study."""
    stored = load_stored(run)
    return fields.from_json(Overrides, stored["overrides"]) if stored else Overrides()


def restore_identity(stored: dict[str, Any], url: str | None, overrides: Overrides) -> Identity:
    """The identity in a study.json, with the storage's URL as it is given now, if it is.

    Raises:
        UsageError: the URL has a password, which is not stored, and is not given.
    """
    known = stored["optuna"]["storage"]
    if url is None and known is not None and has_password(known):
        raise UsageError(f"the run's Optuna storage is {known}: give it again with --optuna-storage, with its password")
    if url is not None and hide_password(url) != known:
        raise UsageError(
            f"the run's Optuna storage is {known or 'the journal in its folder'}, got --optuna-storage "
            f"{hide_password(url)}; leave it out, or start a new run with another --name"
        )
    return Identity(
        run_id=stored["run_id"],
        study_name=stored["optuna"]["study_name"],
        storage_url=url or known,
        overrides=overrides,
    )


def check_digest(stored: dict[str, Any], source: str, digest: str) -> None:
    """Fails on other images than the run's.

    Raises:
        DataError: the digest of the images of `source` is another.
    """
    if digest != stored["data_digest"]:
        raise DataError(
            f"the images of {source} are not those of the run: digest {digest[:12]}, "
            f"the run's {stored['data_digest'][:12]}; give the same files, or start a new run with another --name"
        )


def describe_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`key: before -> now` for all that makes two studies, as study.json has them, search differently."""
    old, new = _flatten({key: before.get(key) for key in COMPARED}), _flatten({key: now[key] for key in COMPARED})
    return [
        f"{key}: {old.get(key, 'not there')} -> {new.get(key, 'not there')}"
        for key in sorted(old.keys() | new.keys())
        if key != MOVABLE and (key not in old or key not in new or old[key] != new[key])
    ]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> leaf as text; a distribution is one leaf."""
    if isinstance(value, dict) and value.keys() == {"name", "attributes"}:
        arguments = ", ".join(f"{key}={argument!r}" for key, argument in value["attributes"].items())
        return {prefix: f"{value['name']}({arguments})"}
    if not isinstance(value, dict):
        return {prefix: json.dumps(value)}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        leaves |= _flatten(item, f"{prefix}.{key}" if prefix else key)
    return leaves
