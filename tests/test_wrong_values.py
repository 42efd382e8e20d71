"""Whatever a flag, a setting or a study's file holds: it is taken, or refused in one short message."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysweep.catalogue import load_study
from raysweep.cli import make_printable
from raysweep.commands.tune import tune
from raysweep.config import DataConfig
from raysweep.errors import RaysweepError, UsageError
from raysweep.paths import resolve_path
from raysweep.search.flags import list_flags
from raysweep.search.options import RunOptions, check_name
from raysweep.search.overrides import Overrides
from raysweep.search.start import resolve_search
from raysweep.study import Study

ROOT = Path(__file__).parent.parent
STUDY = """
from optuna.distributions import *
from raysweep import Budget, ClassificationConfig, DataConfig, Objective, Study, TrainingConfig, When
inf, nan = float("inf"), float("nan")
values = dict(
    name="small", task=ClassificationConfig(model="fashion_cnn"), data=DataConfig(), training=TrainingConfig(),
    space={{"task.optimizer": CategoricalDistribution(("adam", "sgd"))}}, objective=Objective(metric="val/accuracy"),
)
STUDY = Study(**{{**values, {changes}}})
"""
SPECIAL = [
    "",
    " ",
    "=",
    ":",
    "..",
    "../../evil",
    "~nobody-of-this-name/x",
    "a\n",
    "a\0",
    "x" * 5000,
    "-1",
    "0",
    "1e400",
]
SPECIAL += ["1e400", "nan", "inf", "-inf", "1e3", "0s", "9" * 400, "9" * 400 + "d", "None", "[1, 2]", "{}"]
SPECIAL += ["\x1b[31m", "\udcff"]
TEXTS = st.sampled_from(SPECIAL) | st.text(max_size=20) | st.integers().map(str) | st.floats().map(str)
FLAGS = [flag for kind in (Overrides, RunOptions) for flag in list_flags(kind) if flag.annotation is not bool]
FIELDS = ["task.learning_rate", "task.optimizer", "task.model", "training.epochs", "training.batch_size", "data.source"]
FIELDS += [
    "data.image_size",
    "data.augmentation.strength",
    "task.gradient_clip_norm",
    "task.pretrained",
    "seed",
    "task",
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(SPECIAL[:-1]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=2),
    max_leaves=3,
).map(repr)
CODE = JUNK | st.sampled_from(
    [
        "FloatDistribution(1e-4, inf)",
        "FloatDistribution(nan, 1)",
        "FloatDistribution(1, 0)",
        "FloatDistribution(0, 1, log=True)",
        "CategoricalDistribution(())",
        "CategoricalDistribution(('adam', 'adam'))",
        "CategoricalDistribution((['adam'],))",
        "When('task.optimizer', 'lion', {})",
        "When('task.optimizer', 'sgd', {'task.momentum': 3})",
        "When(3, 'sgd', None)",
        "TrainingConfig(epochs=10**12)",
        "Budget(time_s=inf)",
    ]
)
PARTS = st.sampled_from(
    ["name", "task", "data", "training", "space", "conditions", "points", "objective", "budget", "seed"]
)
quick = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check_message(error: Exception, *, exit_code: int = 2, names: str = "") -> None:
    text = make_printable(str(error))
    assert exit_code == 2
    assert names in text
    assert 0 < len(text) < 6000
    assert text.count("\n") < 12


@quick
@given(said=st.lists(st.tuples(st.sampled_from(FLAGS), TEXTS), max_size=3))
def test_any_value_of_any_flag(said: list[tuple[Any, str]], study: Study, tmp_path: Path) -> None:
    arguments = [text for flag, value in said for text in (flag.names[0], value)]
    try:
        values = tune.make_context("tune", ["STUDY", *arguments]).params
        resolved, options = resolve_search(study, {name: value for name, value in values.items() if name != "study"})
    except (RaysweepError, click.ClickException) as error:
        check_message(error, exit_code=error.exit_code)
    else:
        assert options.run_folder.path.parent == options.storage
        assert resolved.budget.trials >= 1


@quick
@given(settings=st.lists(st.builds("{}={}".format, st.sampled_from(FIELDS), TEXTS) | TEXTS, max_size=3))
def test_any_setting(settings: list[str], study: Study) -> None:
    try:
        changed = study.with_settings(settings)
    except UsageError as error:
        check_message(error)
    else:
        assert changed.to_json()


@quick
@given(
    changes=st.dictionaries(PARTS, CODE, min_size=1, max_size=2),
    space=st.dictionaries(st.sampled_from(FIELDS), CODE, max_size=2),
)
def test_any_part_of_a_study(changes: dict[str, str], space: dict[str, str], tmp_path: Path) -> None:
    choices = ", ".join(f"{key!r}: {value}" for key, value in space.items())
    parts = {"space": f"{{{choices}}}"} | changes
    path = tmp_path / "drawn.py"
    path.write_text(STUDY.format(changes=", ".join(f"{part!r}: {code}" for part, code in parts.items())))
    try:
        loaded = load_study(str(path))
    except UsageError as error:
        check_message(error, names=str(path))
    else:
        assert loaded.to_json()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"import sys; sys.exit()", "line 1: it ends the process"),
        (b"\n\nraise AssertionError", "line 3: AssertionError$"),
        (b"def (", "SyntaxError"),
        (b"\0\1\2", "null bytes"),
        (b"f = lambda: f()\nf()", "line 1: RecursionError"),
        (b"#" * 2_000_000, "at most 1,000,000 bytes"),
        (b"STUDY = 3", "must define STUDY"),
    ],
)
def test_a_file_that_is_no_study(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "no_study.py"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_study(str(path))


def test_a_folder_and_a_pipe_are_no_study(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    for name in ("folder.py", "pipe.py", "x" * 300 + ".py"):
        with pytest.raises(UsageError):
            load_study(str(tmp_path / name))


@pytest.mark.parametrize(("key", "value"), [("learning_rate", float("inf")), ("optimizer", "lion"), ("pretrained", 1)])
def test_a_value_that_is_not_of_its_fields_type(key: str, value: object, make_study: Callable[..., Study]) -> None:
    changes: dict[str, Any] = {key: value}
    task = type(make_study().task)(**changes)
    with pytest.raises(ValueError, match=rf"task\.{key}"):
        make_study(task=task, space={}, conditions=())


@pytest.mark.parametrize("name", ["", ".", "..", ".cache", "../../evil", "a/b", "a\n", "-x", "ünï", "x" * 101])
def test_a_name_that_is_no_folders(name: str, tmp_path: Path, make_study: Callable[..., Study]) -> None:
    with pytest.raises(UsageError, match="is a folder's name"):
        check_name(name)
    with pytest.raises((UsageError, ValueError)):
        resolve_search(make_study(name=name), {"storage": tmp_path})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["", " ", "~nobody-of-this-name", "x" * 5000, "a\0b"])
def test_a_path_that_is_none(path: str) -> None:
    with pytest.raises(UsageError, match="--storage must be a path"):
        resolve_path(path, "--storage")


def test_no_source_is_no_folder() -> None:
    with pytest.raises(ValueError, match=r"data\.source must be"):
        DataConfig(source=" ")
