"""A flag of the command line is one field: its name, type, help, default and place are read from the dataclass."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import PositiveInt

from raysweep.commands import COMMANDS
from raysweep.commands.options import with_flags
from raysweep.errors import UsageError
from raysweep.search.flags import NO_FLAG, flag, list_flags
from raysweep.search.options import RunOptions
from raysweep.search.overrides import Overrides
from raysweep.search.start import resolve_search


def parse_hex(text: str) -> int:
    return int(text, 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    name: str
    """Has no default."""
    observers: tuple[str, ...] = ()
    """May be
    repeated."""
    num_workers: PositiveInt = field(default=1, metadata=flag("--workers"))
    """At least 1."""
    mode: Literal["fast", "slow"] | None = None
    storage: Path = Path("results")
    keep_all: bool = False
    colour: int | None = field(default=None, metadata=flag(metavar="HEX", parse=parse_hex))
    """In hex."""
    secret: str | None = field(default=None, metadata=NO_FLAG)


SAID: dict[str, Any] = {}


@click.command
@with_flags(Example)
def example(**values: Any) -> None:
    SAID.update(values)


def run(*arguments: str) -> dict[str, Any]:
    SAID.clear()
    done = CliRunner().invoke(example, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(SAID)


def test_fields_become_flags_in_their_order_with_their_docstrings() -> None:
    assert [(each.names, each.help) for each in list_flags(Example)] == [
        (("--name",), "Has no default."),
        (("--observer",), "May be repeated."),
        (("--workers",), "At least 1."),
        (("--mode",), ""),
        (("--storage",), ""),
        (("--keep-all",), ""),
        (("--colour",), "In hex."),
    ]


def test_values_come_under_the_fields_names_in_the_fields_types() -> None:
    assert run() == {
        "name": None,
        "observers": (),
        "num_workers": 1,
        "mode": None,
        "storage": Path("results"),
        "keep_all": False,
        "colour": None,
    }
    said = run("--observer", "a", "--observer", "b", "--workers", "2", "--mode", "slow", "--keep-all")
    assert said["observers"] == ("a", "b")
    assert (said["num_workers"], said["mode"], said["keep_all"]) == (2, "slow", True)
    assert run("--storage", "x", "--colour", "ff")["storage"] == Path("x")
    assert run("--colour", "ff")["colour"] == 255


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "x>=1"),
        (["--mode", "odd"], "'fast', 'slow'"),
        (["--colour", "xyz"], "Invalid value for '--colour': invalid literal"),
        (["--secret", "x"], "No such option"),
    ],
)
def test_wrong_values_are_refused(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(example, arguments)
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize("kind", [Overrides, RunOptions])
def test_tune_offers_every_field_and_each_has_a_help_text(kind: type[Any]) -> None:
    offered = {option.name: option for option in COMMANDS.load("tune").params}
    for each in list_flags(kind):
        assert offered[each.field].opts == list(each.names)
        assert each.help, each.field


def test_the_sampler_has_its_former_name_too() -> None:
    (sampler,) = (option for option in COMMANDS.load("tune").params if option.name == "sampler")
    assert sampler.opts == ["--sampler", "--strategy"]


def test_a_search_is_resolved_from_values_by_field(tmp_path: Path) -> None:
    study, options = resolve_search("fashion_cnn", {"trials": 3, "storage": tmp_path, "name": None, "num_workers": 2})
    assert (study.budget.trials, options.overrides.trials) == (3, 3)
    assert options.run_folder.path == tmp_path / "fashion_cnn"
    assert (options.num_workers, options.overrides.num_leading) == (2, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trails": 3}, "unknown keyword 'trails'; did you mean 'trials'"),
        ({"workers": 2}, "unknown keyword 'workers': --workers is num_workers= in Python"),
        ({"trials": "many"}, "trials: Input should be a valid integer"),
        ({"settings": "task.model=resnet18"}, "settings: Input should be a valid tuple"),
        ({"num_workers": 0}, "num_workers: Input should be greater than 0"),
        ({"wandb": "on"}, "wandb: Input should be 'online', 'offline' or 'disabled'"),
        ({"name": "../x"}, "is a folder's name"),
        ({"data_root": "x"}, "unknown keyword 'data_root'"),
    ],
)
def test_keywords_that_are_wrong_say_what_is_right(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        resolve_search("fashion_cnn", values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials_per_gpu": "0"}, "--trials-per-gpu must be auto or a number from 1 to 999, got '0'"),
        ({"trials_per_gpu": "many"}, "--trials-per-gpu must be auto or a number"),
        ({"trials_per_gpu": "2", "gpus_per_worker": 0.5}, "leave one out"),
        ({"trials_per_gpu": "auto", "num_workers": 2}, "for trials of one worker"),
    ],
)
def test_gpus_are_shared_in_one_way(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunOptions(name="x", **values)
    assert RunOptions(name="x", trials_per_gpu="auto").trials_per_gpu == "auto"
