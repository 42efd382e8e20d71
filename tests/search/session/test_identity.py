"""Recognising a run of an earlier version: fields that it had not are no change while they are at their defaults."""

import json
from typing import Any

import pytest

from raysweep.search.session.identity import describe_changes
from raysweep.study import Study


@pytest.fixture
def stored(study: Study) -> dict[str, Any]:
    """What an earlier version wrote of the study."""
    values: dict[str, Any] = json.loads(json.dumps(study.to_json()))
    for name in ("trivial_augment", "random_erasing", "mixup", "cutmix"):
        del values["data"]["augmentation"][name]
    del values["training"]["eval_batch_size"]
    return values


def test_fields_of_later_versions_are_no_change(study: Study, stored: dict[str, Any]) -> None:
    assert describe_changes(stored, json.loads(json.dumps(study.to_json()))) == []


def test_one_that_is_set_is_a_change(study: Study, stored: dict[str, Any]) -> None:
    changed = study.with_settings(["data.augmentation.mixup=0.2"])
    assert describe_changes(stored, json.loads(json.dumps(changed.to_json()))) == [
        "data.augmentation.mixup: 0.0 -> 0.2"
    ]


def test_what_is_no_configuration_is_compared_as_it_stands(study: Study, stored: dict[str, Any]) -> None:
    stored["data"]["image_size"] = "large"
    assert 'data.image_size: "large" -> 32' in describe_changes(stored, json.loads(json.dumps(study.to_json())))
