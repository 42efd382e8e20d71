"""Builds the options of commands from the flags of dataclasses."""

import shlex
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic import PositiveInt

from raysweep.errors import UsageError
from raysweep.paths import resolve_path
from raysweep.run_folder import RunFolder
from raysweep.search.flags import Flag, list_flags

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""How click shows each command."""


class PathType(click.ParamType[Path]):
    """A path that can be used: click's own takes an empty one for the folder one is in."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Returns the path as it is given, once resolve_path takes it."""
        names = param.opts if param is not None else ["a path"]
        resolve_path(value, names[0] if names[0].startswith("-") else names[0].upper())
        return Path(value)


trust_code_option = click.option(
    "--trust-code", is_flag=True, help="Runs the code of somebody's own that the run names."
)


optuna_storage_option = click.option(
    "--optuna-storage",
    "storage_url",
    metavar="URL",
    help="The database of the run's Optuna study, with its password, which is not stored.",
)


json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


def open_run(run: Path) -> RunFolder:
    """Returns the folder of a run that has a best model, or of a model that was published.

    Raises:
        UsageError: it has none.
    """
    folder = RunFolder(run.expanduser().resolve())
    if not folder.best.config.is_file():
        raise UsageError(f"{run} is not the folder of a finished run: it has no best/{folder.best.config.name}")
    return folder


SECRET = ("--optuna-storage", "--notify")
"""Flags whose values may have a password."""
KEPT = "--trials"
"""Flag that a run remembers, and that somebody may have said otherwise since."""


def describe_resume(context: click.Context) -> str:
    """Returns the command line that goes on with what this process has begun; secrets are left out."""
    words: list[str] = []
    given = iter(context.find_object(list) or [])
    for word in given:
        name, equals, _ = word.partition("=")
        value = next(given, "") if word in (*SECRET, KEPT) else ""
        if name == KEPT:
            continue
        words += [name, "..."] if name in SECRET and (equals or value) else [word]
    if "--resume" not in words:
        words.append("--resume")
    return f"{context.find_root().info_name} {shlex.join(words)}"


_TYPES = {Path: PathType(), PositiveInt: click.IntRange(min=1)}
_METAVARS = {str: "NAME", int: "N", float: "F", PositiveInt: "N"}


def with_flags(kind: type[Any], *fields: str, **helps: str) -> Callable[[Any], Any]:
    """Adds to a command an option for each flag of a dataclass, or for those of the named fields.

    helps: by field, texts in place of the fields' docstrings. The command receives values under the fields' names.
    """
    flags = {flag.field: flag for flag in list_flags(kind)}
    chosen = [flags[field] for field in fields] or list(flags.values())

    def add(command: Any) -> Any:
        for flag in reversed(chosen):
            command = build_option(flag, helps.get(flag.field, flag.help))(command)
        return command

    return add


def build_option(flag: Flag, help_text: str) -> Callable[[Any], Any]:
    """Builds the option of a flag, as a decorator of the command."""
    if flag.annotation is bool:
        return click.option(*flag.names, flag.field, is_flag=True, help=help_text)
    choices = typing.get_args(flag.annotation) if typing.get_origin(flag.annotation) is typing.Literal else ()
    kind = click.Choice(choices) if choices else _TYPES.get(flag.annotation, flag.annotation)
    return click.option(
        *flag.names,
        flag.field,
        type=str if flag.parse else kind,
        callback=_parse_by(flag.parse) if flag.parse else None,
        multiple=flag.repeatable,
        default=flag.default,
        show_default=flag.default not in (None, ()),
        metavar=flag.metavar or _METAVARS.get(flag.annotation),
        help=help_text,
    )


def _parse_by(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def callback(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return callback
