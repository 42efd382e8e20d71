"""Recognising a run of an earlier version: fields that it had not are no change while they are at their defaults."""

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from raysweep import config_fields
from raysweep.catalogue import list_studies, load_study
from raysweep.search.session.identity import describe_changes
from raysweep.study import Study
from raysweep.tasks.classification.config import ClassificationConfig


@pytest.fixture
def stored(study: Study) -> dict[str, Any]:
    """What an earlier version wrote of the study."""
    values: dict[str, Any] = json.loads(json.dumps(study.to_json()))
    for name in ("trivial_augment", "random_erasing", "mixup", "cutmix"):
        del values["data"]["augmentation"][name]
    del values["training"]["eval_batch_size"]
    del values["task"]["ema_decay"]
    return values


def test_fields_of_later_versions_are_no_change(study: Study, stored: dict[str, Any]) -> None:
    assert describe_changes(stored, study) == []


@pytest.mark.parametrize("field", ["data.augmentation.mixup", "task.ema_decay"])
def test_one_that_is_set_is_a_change(study: Study, stored: dict[str, Any], field: str) -> None:
    changed = study.with_settings([f"{field}=0.2"])
    default = {"data.augmentation.mixup": "0.0", "task.ema_decay": "null"}[field]
    assert describe_changes(stored, changed) == [f"{field}: {default} -> 0.2"]


@pytest.mark.parametrize("name", list_studies())
def test_each_field_of_each_study_may_be_new(name: str) -> None:
    """But those without a default, which say what the run is."""
    study = load_study(name)
    values = json.loads(json.dumps(study.to_json()))
    for part in ("task", "data", "training"):
        defaults = config_fields.to_json(type(getattr(study, part))())
        values[part] = {key: value for key, value in values[part].items() if defaults.get(key, ...) != value}
    assert describe_changes(values, study) == []


@dataclass(frozen=True, kw_only=True, slots=True)
class Blurred(ClassificationConfig):
    """A task of somebody else's, in a later version of which there is one more field."""

    kind: ClassVar[str] = "blurred"
    radius: float = 0.0
    """Of the blur, in pixels; 0 or more: none."""


def test_a_task_of_ones_own_may_have_new_fields(study: Study) -> None:
    task = Blurred(model="fashion_cnn", optimizer="adam", dropout=0.5)
    study = replace(study, task=task)
    values = json.loads(json.dumps(study.to_json()))
    del values["task"]["radius"]
    assert describe_changes(values, study) == []
    changed = replace(study, task=replace(task, radius=2.0))
    assert describe_changes(values, changed) == ["task.radius: 0.0 -> 2.0"]


def test_another_task_is_compared_as_it_stands(study: Study, stored: dict[str, Any]) -> None:
    stored["task"] = {"kind": "gan", "network": "dense"}
    changes = describe_changes(stored, study)
    assert 'task.kind: "gan" -> "classification"' in changes
    assert 'task.network: "dense" -> not there' in changes


def test_what_is_no_configuration_is_compared_as_it_stands(study: Study, stored: dict[str, Any]) -> None:
    stored["data"]["image_size"] = "large"
    assert 'data.image_size: "large" -> 32' in describe_changes(stored, study)
