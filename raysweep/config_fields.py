"""Dotted access to nested configuration dataclasses: read, replace, parse from text, to and from JSON."""

import dataclasses
import difflib
import functools
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pydantic

from raysweep.atomic_files import Json
from raysweep.errors import UsageError, shorten

T = TypeVar("T")
_adapter: Callable[[Any], pydantic.TypeAdapter[Any]] = functools.cache(pydantic.TypeAdapter)
"""Builds the adapter of a type once: it takes milliseconds."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Returns the message for a name that does not exist: the closest ones first, then all that are known."""
    known = sorted(known)
    name = shorten(name)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown {what} {name!r}{hint} Known: {', '.join(known)}."


def list_fields(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns each leaf field of a nested dataclass instance under its dotted name."""
    leaves: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        leaves |= list_fields(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
        if isinstance(value, Mapping):
            leaves |= {f"{name}.{key}": item for key, item in value.items()}
    return leaves


def check_types(config: Any, prefix: str) -> None:
    """Refuses values that are not of their fields' types, and numbers that are infinite or none.

    Raises:
        ValueError: one is; `prefix` stands before the name of its field.
    """
    annotations = _annotations(type(config))
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(annotations[field.name]) and isinstance(value, annotations[field.name]):
            check_types(value, f"{name}.")
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        try:
            _adapter(annotations[field.name]).validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            raise ValueError(f"{name}: {error.errors()[0]['msg']}, got {shorten(repr(value))}") from None


def replace_field(config: T, name: str, value: Any) -> T:
    """Returns a copy of the nested dataclass with one dotted field replaced; validation runs again."""
    first, _, rest = name.partition(".")
    new = replace_field(getattr(config, first), rest, value) if rest else value
    return dataclasses.replace(config, **{first: new})  # type: ignore[type-var]


def replace_fields(config: T, values: Mapping[str, Any]) -> T:
    """Returns a copy with several dotted fields replaced at once, so that only the whole has to be valid."""
    changed: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if rest:
            nested.setdefault(first, {})[rest] = value
        else:
            changed[first] = value
    for first, inner in nested.items():
        whole = changed.get(first, getattr(config, first))
        changed[first] = {**whole, **inner} if isinstance(whole, Mapping) else replace_fields(whole, inner)
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]


def parse_field(config: Any, name: str, text: str) -> Any:
    """Returns the value of `text` in the type of the dotted field `name`.

    Raises:
        UsageError: there is no such field, or the text is not of its type.
    """
    if name not in list_fields(config):
        raise UsageError(unknown_name("field", name, list_fields(config)))
    owner, _, leaf = name.rpartition(".")
    for part in owner.split("."):
        config = getattr(config, part)
    annotation = type(config[leaf]) if isinstance(config, Mapping) else _annotations(type(config))[leaf]
    if text.lower() == "none" and type(None) in typing.get_args(annotation):
        return None
    if typing.get_origin(annotation) is typing.Literal:  # validate_strings takes texts alone
        values = {str(choice).lower(): choice for choice in typing.get_args(annotation)}
        if text.lower() in values:
            return values[text.lower()]
    try:
        if typing.get_origin(annotation) is Mapping:
            return _adapter(annotation).validate_json(text)
        return _adapter(annotation).validate_strings(text)
    except pydantic.ValidationError as error:
        reason = "; ".join(line["msg"] for line in error.errors())
        raise UsageError(f"{name}={shorten(text)}: {reason}") from None


def to_json(config: Any) -> Json:
    """Returns the dataclass as plain JSON values."""
    return typing.cast(Json, _adapter(type(config)).dump_python(config, mode="json"))


def from_json(kind: type[T], values: Mapping[str, Any]) -> T:
    """Returns the dataclass `kind` built from plain JSON values, validated.

    Raises:
        UsageError: a field is missing or out of its range.
    """
    try:
        return typing.cast(T, _adapter(kind).validate_python(dict(values)))
    except pydantic.ValidationError as error:
        reason = "; ".join(map(_describe_line, error.errors()))
        is_told = all(line["type"] == "value_error" for line in error.errors())
        raise UsageError(reason if is_told else f"not a valid {kind.__name__}: {reason}") from None


def _describe_line(line: Any) -> str:
    """Says where and why a value was refused; what a class itself refuses has its value already."""
    if line["type"] == "value_error":
        return str(line["ctx"]["error"])
    return f"{'.'.join(map(str, line['loc']))}: {line['msg']}, got {shorten(repr(line['input']))}"


_annotations: Callable[[Any], dict[str, Any]] = functools.cache(
    functools.partial(typing.get_type_hints, include_extras=True)
)
"""Reads the types of a class's fields once."""
