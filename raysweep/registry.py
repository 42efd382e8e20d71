"""Finds an object by name: a built-in one, one that an installed package offers, or one in a file."""

import functools
import hashlib
import importlib
import importlib.abc
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from raysweep import config_fields
from raysweep.errors import RaysweepError, RefusedFileError, UsageError, shorten
from raysweep.paths import resolve_path

MAX_FILE_BYTES = 1_000_000
"""Of a file of Python: more is no study, whatever its name says."""


class Registry:
    """Objects of one kind by name. Nothing is imported before it is asked for.

    A name is a built-in one, that of an entry point of the same `group` in any installed package, or a reference,
    `package.module:Name` or `path/to/file.py:Name`.
    """

    def __init__(self, group: str, what: str, built_in: Mapping[str, str]) -> None:
        """Takes the `group` of the entry points, `what` an object is called in messages, and name -> reference."""
        self.group = group
        self.what = what
        self.built_in = dict(built_in)

    def references(self) -> dict[str, str]:
        """Lists the reference of each name that is known; a built-in name cannot be taken by a package."""
        return {**{point.name: point.value for point in _find_entry_points(self.group)}, **self.built_in}

    def load(self, name: str) -> Any:
        """Imports the object of that name.

        Raises:
            UsageError: there is none, or its module cannot be imported.
        """
        references = self.references()
        if name not in references and ":" not in name:
            raise UsageError(
                f"{config_fields.unknown_name(self.what, name, references)} One of your own is named as "
                "package.module:Name or path/to/file.py:Name."
            )
        return load_object(references.get(name, name))

    def refuse_foreign(self, name: str, remedy: str) -> None:
        """Refuses code that a run's folder names, unless this process has imported it: to read a run runs no code.

        Names that are built in or of an installed package's entry point are no such code.

        Raises:
            RefusedFileError: the message has the `remedy`.
        """
        if name not in self.references() and not is_imported(name):
            raise RefusedFileError(
                f"the run names a {self.what} of somebody's own, {name}, and reading a run runs no code; {remedy}"
            )

    def build(self, name: str, kind: type[Any], *arguments: Any, **named: Any) -> Any:
        """Calls the object of that name, a builder, with these arguments; it has to return a `kind`.

        Raises:
            UsageError: there is no such builder, it does not take the arguments, or it returns something else.
        """
        builder = self.load(name)
        try:
            inspect.signature(builder).bind(*arguments, **named)
        except (TypeError, ValueError) as error:
            takes = ", ".join([*(type(argument).__name__ for argument in arguments), *(f"{key}=..." for key in named)])
            raise UsageError(f"the {self.what} {name} must be callable with ({takes}): {error}") from None
        try:
            made = builder(*arguments, **named)
        except RaysweepError:
            raise
        except (Exception, SystemExit) as error:  # whatever somebody's own code raises is shown as that code's error
            raise UsageError(f"the {self.what} {name} failed: {_describe_error(error)}") from error
        if not isinstance(made, kind):
            raise UsageError(f"the {self.what} {name} must return a {kind.__name__}, got a {type(made).__name__}")
        return made


@functools.cache
def _find_entry_points(group: str) -> tuple[Any, ...]:
    return tuple(entry_points(group=group))


def resolve_reference(name: str) -> str:
    """Makes the path in `path/to/file.py:Name` absolute, so that it holds in another folder; other names stay."""
    place, _, attribute = name.rpartition(":")
    return f"{resolve_path(place, 'a file of Python')}:{attribute}" if place.endswith(".py") else name


def is_imported(reference: str) -> bool:
    """Tells whether this process has imported the module in which `reference` names an object."""
    place, _, _ = reference.rpartition(":")
    return (_name_module(Path(place)) if place.endswith(".py") else place) in sys.modules


def load_object(reference: str) -> Any:
    """Imports the object that `package.module:Name` or `path/to/file.py:Name` names.

    Raises:
        UsageError: it names none; the message has what the import raised.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise UsageError(f"an object is named as package.module:Name or path/to/file.py:Name, got {reference!r}")
    try:
        module = load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except RaysweepError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody's own module raises is shown as its error
        raise UsageError(f"{reference} cannot be imported: {_describe_error(error)}") from error
    try:
        return functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        known = ", ".join(sorted(key for key in vars(module) if not key.startswith("_")))
        raise UsageError(f"{place} has no {name!r}; it has: {known}") from None


def load_file(path: Path, *, anew: bool = False) -> Any:
    """Imports a file of Python as a module, once in a process; `anew`: as it is now, though it was imported before.

    Raises:
        UsageError: there is no such file, it is no file of Python, or it raises an error.
    """
    path = resolve_path(path, "a file of Python")
    name = _name_module(path)
    if name in sys.modules and not anew:
        return sys.modules[name]
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"no file {path}")
    if (size_bytes := path.stat().st_size) > MAX_FILE_BYTES:
        raise UsageError(f"a file of Python has at most {MAX_FILE_BYTES:,} bytes, {path} has {size_bytes:,}")
    return import_source(path, path.read_bytes())


class _Loader(importlib.abc.SourceLoader):
    """Loads a module from text that is there, and keeps it: the file may change meanwhile, or be on another host."""

    def __init__(self, path: Path, source: bytes) -> None:
        self.path = path
        self.source = source

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_data(self, path: str | bytes) -> bytes:
        return self.source


def import_source(path: Path, source: bytes) -> Any:
    """Imports the text of a file of Python as the module that `load_file` makes of that file.

    Raises:
        UsageError: it raises an error.
    """
    path = resolve_path(path, "a file of Python")
    name = _name_module(path)
    spec = importlib.util.spec_from_loader(name, _Loader(path, source), origin=str(path))
    assert spec is not None
    assert spec.loader is not None
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:  # whatever a user's file raises is shown as that file's error
        del sys.modules[name]
        moved = isinstance(error, ImportError) and (error.name or "").startswith("raysweep")
        hint = "; import the names of studies from raysweep itself, as in `from raysweep import Study`" * moved
        raise UsageError(f"{_locate(error, path)}: {_describe_error(error)}{hint}") from error
    return module


def read_source(path: Path) -> bytes:
    """Returns the text that the module of a file of Python was imported from, in this process; imports it first."""
    loader = load_file(path).__loader__
    assert isinstance(loader, _Loader)
    return loader.source


def is_loaded(path: Path, source: bytes) -> bool:
    """Tells whether this process has imported a file of Python, and from this text."""
    return _name_module(path) in sys.modules and read_source(path) == source


def _describe_error(error: BaseException) -> str:
    """Says an error of somebody else's code in one line."""
    if isinstance(error, SystemExit):
        return f"it ends the process (SystemExit: {error.code}); a file that is imported must not"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {shorten(text, 1000)}" if text else type(error).__name__


def _locate(error: BaseException, path: Path) -> str:
    """Names the file, and its line that raised the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _name_module(path: Path) -> str:
    """Names the module that a file is imported as."""
    path = resolve_path(path, "a file of Python")
    return f"_raysweep_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def describe_reference(registry: Registry, target: type[Any], name: str) -> str:
    """Returns `name` where the registry knows the class by it, else a reference from which it can be loaded again.

    Raises:
        UsageError: other processes cannot load it: it is of a notebook, of the program itself or inside a function.
    """
    reference = registry.references().get(name)
    if reference == f"{target.__module__}:{target.__qualname__}":
        return name
    if target.__module__ == "__main__" or "<locals>" in target.__qualname__:
        raise UsageError(
            f"a {registry.what} must be one that other processes can import, got {target.__qualname__} of "
            f"{target.__module__}; put it in a file or a package of its own"
        )
    module = sys.modules[target.__module__]
    place = str(module.__file__) if target.__module__.startswith("_raysweep_") else target.__module__
    return f"{place}:{target.__qualname__}"
