"""Sends the driver's code to the workers, and makes them import that."""

import hashlib
import importlib
import importlib.util
from pathlib import Path

import raysweep

PACKAGES = ("raysweep", "search_spaces")


def package_folders() -> list[str]:
    """Lists the folders of the packages that travel with a job, as this process imports them."""
    specs = [importlib.util.find_spec(name) for name in PACKAGES]
    return [folder for spec in specs for folder in (spec and spec.submodule_search_locations) or ()]


def pin_packages() -> None:
    """Imports the packages that came with the job, in a worker that has just started.

    Later, with the worker's first task, Ray puts the driver's current folder in front of everything. A checkout there
    may be older than the driver's; a package that is imported already stays what it is.
    """
    for name in PACKAGES:
        importlib.import_module(name)


def code_digest() -> str:
    """Computes a digest of the source files of the raysweep that this process imported."""
    root = Path(raysweep.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
