"""Options that several commands share, and what the values of options may be."""

import os
import re
from pathlib import Path
from typing import Any

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""How click shows each command."""

with_storage = click.option(
    "--storage",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where runs and the cache of decoded images are kept; on a cluster a path all nodes share.",
)
with_address = click.option(
    "--address",
    metavar="ADDR",
    help="A Ray cluster; default: the one running here or in RAY_ADDRESS, else a local one; `local` forces that.",
)


def with_trial_size(command: Any) -> Any:
    """Adds the options that say what one trial takes."""
    for option in (
        click.option("--gpus-per-worker", type=float, metavar="F", help="Default: 1 where there are any."),
        click.option("--cpus-per-worker", type=float, metavar="F", help="Default: 1, or the share of a GPU."),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Workers of one trial; above 1: DDP.",
        ),
    ):
        command = option(command)
    return command


def with_changes(command: Any) -> Any:
    """Adds the options that change a study."""
    for option in (
        click.option("--seed", type=int, metavar="N", help="Of the search and of every trial; default: 0."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Fixes one field of the study, dotted: task.model=resnet18; may be repeated.",
        ),
        click.option("--max-epochs", type=int, metavar="N", help="Clips the range of epochs, and the baseline's."),
        click.option("--trials", type=int, metavar="N", help="Trials in all, the baseline and failed ones included."),
        click.option(
            "--data",
            metavar="PATH|sample",
            help="A folder of images or idx files, the built-in sample, or a source of your own: FILE.py:NAME.",
        ),
    ):
        command = option(command)
    return command


def parse_duration(text: str) -> float:
    """Seconds in `90s`, `45m`, `2h` or `1d`.

    Raises:
        click.BadParameter: the text is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match or float(match[1]) == 0:
        raise click.BadParameter(f"a duration is a number with s, m, h or d, such as 90s or 2h, got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def resolve_source(data: str | None) -> str | None:
    """Makes the path in --data absolute; the name of a source stays."""
    from raysweep.data import sources

    return None if data is None else sources.resolve_source(data)


def check_name(name: str) -> str:
    """The name, which becomes a folder's.

    Raises:
        click.BadParameter: it has other characters than letters, digits, `.`, `_` and `-`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise click.BadParameter(f"--name is a folder's name of letters, digits, '.', '_' and '-', got {name!r}")
    return name


def data_root() -> Path | None:
    """The folder in RAYSWEEP_DATA, which may hold mnist/ and fashion-mnist/."""
    value = os.environ.get("RAYSWEEP_DATA")
    return Path(value).expanduser().resolve() if value else None
