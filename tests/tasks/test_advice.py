"""What a diverged trial is advised to set: every field that the advice of a task names is a field of that task."""

import dataclasses
import re

import pytest

from raysweep.tasks import TASKS

ADVICE = {name: TASKS.load(name).advice_on_divergence for name in TASKS.built_in}


@pytest.mark.parametrize("kind", ADVICE)
def test_the_fields_that_the_advice_names_exist(kind: str) -> None:
    named = re.findall(r"task\.(\w+)", ADVICE[kind])
    assert named, ADVICE[kind]
    assert set(named) <= {field.name for field in dataclasses.fields(TASKS.load(kind))}


def test_each_task_gives_advice_of_its_own() -> None:
    assert len(set(ADVICE.values())) == len(ADVICE)
