"""Derives the flags of the command line from the fields of dataclasses: a new flag is one field.

The type is the field's annotation, the help text its docstring. What these do not say is declared with the field:

    time_s: float | None = field(default=None, metadata=flag("--time-budget", metavar="2h", parse=parse_duration))
"""

import ast
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_KEY = "raysweep.flag"
NO_FLAG: Mapping[str, Any] = {_KEY: None}
"""Metadata of a field that the command line does not offer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """One field as the command line offers it."""

    field: str
    names: tuple[str, ...]
    """The flag, and further spellings of it."""
    annotation: Any
    """The field's type without None; of a repeatable flag the type of one value."""
    repeatable: bool
    default: Any
    """None where the field has no default."""
    help: str
    metavar: str | None
    parse: Callable[[str], Any] | None


def flag(*names: str, metavar: str | None = None, parse: Callable[[str], Any] | None = None) -> Mapping[str, Any]:
    """Declares, as a field's metadata, how its flag differs from what name and type say.

    names: in place of the field's name; metavar: of the value in the help text; parse: makes the value of a text, and
    raises ValueError where it cannot.
    """
    return {_KEY: {"names": names, "metavar": metavar, "parse": parse}}


def list_flags(kind: type[Any]) -> list[Flag]:
    """Lists the flags of a dataclass, in the order of its fields."""
    annotations = typing.get_type_hints(kind, include_extras=True)
    helps = read_docstrings(kind)
    return [
        _describe(field, annotations[field.name], helps.get(field.name, ""), field.metadata.get(_KEY, {}))
        for field in dataclasses.fields(kind)
        if field.metadata.get(_KEY, {}) is not None
    ]


def read_docstrings(kind: type[Any]) -> dict[str, str]:
    """Reads the docstring under each field of a class, on one line."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = " ".join(text.value.value.split())
    return found


def _describe(field: "dataclasses.Field[Any]", annotation: Any, text: str, declared: Mapping[str, Any]) -> Flag:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        (annotation,) = (part for part in typing.get_args(annotation) if part is not types.NoneType)
    repeatable = typing.get_origin(annotation) is tuple
    name = field.name.removesuffix("s") if repeatable else field.name
    return Flag(
        field=field.name,
        names=declared.get("names") or (f"--{name.replace('_', '-')}",),
        annotation=typing.get_args(annotation)[0] if repeatable else annotation,
        repeatable=repeatable,
        default=None if field.default is dataclasses.MISSING else field.default,
        help=text,
        metavar=declared.get("metavar"),
        parse=declared.get("parse"),
    )
