"""Networks, losses, metrics and augmentations of one's own: which of them may run here, and how they reach others.

A configuration names them as `path/to/file.py:Name` or `package.module:Name`. A file travels with the configuration to
whatever process it is sent to; a package has to be installed there.
"""

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from raysweep.errors import RefusedFileError, UsageError
from raysweep.registry import import_source, is_loaded, load_object, read_source

_trusted: set[str] = set()
"""References that this process was told of by its user, and not by a run's folder alone."""


def is_reference(name: object) -> bool:
    """Tells whether a value names code: `path/to/file.py:Name` or `package.module:Name`."""
    return isinstance(name, str) and bool(re.fullmatch(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*", name))


def trust(references: Iterable[str]) -> None:
    """Lets code run that a user has named, or whose origin a user trusts."""
    _trusted.update(references)


def refuse_untrusted(references: Iterable[str], remedy: str) -> None:
    """Refuses code that a run's folder names: to read a run runs no code.

    Raises:
        RefusedFileError: nobody has named it to this process; the message has the `remedy`.
    """
    for reference in references:
        if reference not in _trusted:
            raise RefusedFileError(
                f"the run names code of somebody's own, {reference}, and reading a run runs no code; {remedy}"
            )


def load_callable(reference: str, field: str, *arguments: Any, **named: Any) -> Callable[..., Any]:
    """Imports what a `field` names, and checks that it can be called with such arguments.

    Raises:
        UsageError: it cannot be imported, or cannot be called so.
    """
    loaded: Callable[..., Any] = load_object(reference)
    takes = ", ".join([*map(str, arguments), *(f"{name}=..." for name in named)])
    try:
        inspect.signature(loaded).bind(*arguments, **named)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{field} must be callable with ({takes}), got {reference}: {error}") from None
    return loaded


def digest_code(references: Iterable[str]) -> dict[str, str]:
    """Computes the SHA-256 of each file or module that is named, as it was imported."""
    digests = {}
    for reference in references:
        place, _, _ = reference.rpartition(":")
        if place.endswith(".py"):
            source = read_source(Path(place))
        else:
            load_object(reference)
            file = sys.modules[place].__file__
            source = Path(file).read_bytes() if file else b""
        digests[place] = hashlib.sha256(source).hexdigest()
    return digests


def pack_files(references: Iterable[str]) -> dict[str, bytes]:
    """Returns the text of each file that is named, as it was imported."""
    places = {reference.rpartition(":")[0] for reference in references}
    return {place: read_source(Path(place)) for place in sorted(places) if place.endswith(".py")}


def unpack_files(sources: Mapping[str, bytes]) -> None:
    """Imports files by their text, those that have not been: under the names by which they are referred to.

    Raises:
        UsageError: one raises an error.
    """
    for place, source in sources.items():
        if not is_loaded(Path(place), source):
            import_source(Path(place), source)
