"""Finds the images of a data set by the name of its source. Importing this imports no source."""

from pathlib import Path
from typing import TYPE_CHECKING

from raysweep.errors import DataError
from raysweep.paths import resolve_path
from raysweep.registry import Registry, resolve_reference

if TYPE_CHECKING:
    from raysweep.data.records import Source

SOURCES = Registry(
    "raysweep.sources",
    "source of images",
    {
        **{
            name: f"{__name__}.{name.replace('-', '_')}:load" for name in ("sample", "mnist", "fashion-mnist", "kaggle")
        },
        "hf": f"{__name__}.hugging_face:load",
        "s3": f"{__name__}.bucket:load_s3",
        "gs": f"{__name__}.bucket:load_gs",
    },
)
"""Loaders of sources. Each is called as `load(argument, split_seed=..., storage=..., data_root=...)`.

It returns a `raysweep.data.records.Source`: classes, and for train, val and test the absolute paths of image files with
their labels. Nothing is decoded here: any image file that Pillow reads safely will be, once, on whichever node. In a
study or after --data a source is named as `NAME`, `NAME:ARGUMENT`, `path/to/file.py:NAME` or
`path/to/file.py:NAME:ARGUMENT`; `argument` is "" where there is none. `split_seed` decides what is held out where the
data have no splits. `storage` is the folder below whose `.cache/` downloads go, `data_root` RAYSWEEP_DATA or None. A
DataError says why the images cannot be had. Loaders run in the driver only.
"""
WAYS_ON = """Three ways to go on:
  --data PATH           a folder of images ([train|val|test/]<class>/*.jpg, or a labels.csv) or of idx files
  RAYSWEEP_DATA=FOLDER  a folder that holds mnist/ and fashion-mnist/
  --data sample         the built-in sample: drawn cars, synthetic, for trying things out"""


def load_source(spec: str, *, split_seed: int, storage: Path, data_root: Path | None = None) -> "Source":
    """Finds the images that `spec` names: a folder's path, or a source's name as SOURCES describes it.

    Raises:
        DataError: the images cannot be had; the message says what was tried and the ways to go on.
        UsageError: a source of one's own cannot be imported, or is none.
    """
    from raysweep.data.records import Source
    from raysweep.data.sources.path import load_path

    named = _split_name(spec)
    if named is None:
        return load_path(spec, split_seed=split_seed, storage=storage)
    name, argument = named
    source: Source = SOURCES.build(name, Source, argument, split_seed=split_seed, storage=storage, data_root=data_root)
    if name not in SOURCES.built_in:
        _check_source(source, spec)
    return source


def resolve_source(spec: str) -> str:
    """Makes the path in a source's name absolute, so that it holds in another folder.

    A folder of the name of a source is the folder, as it is given on the command line; `sample` is always the sample.

    Raises:
        UsageError: it is empty, or no path.
    """
    named = _split_name(spec)
    path = resolve_path(spec, "--data")
    if named is None or (path.is_dir() and spec != "sample"):
        return str(path)
    name, _ = named
    return f"{resolve_reference(name)}{spec.removeprefix(name)}"


def is_folder(spec: str) -> bool:
    """Tells whether `spec` names a folder by its path, and no source."""
    return _split_name(spec) is None


def check_source_name(spec: str) -> None:
    """Imports the source that `spec` names unless it is a built-in one; a path is not looked at.

    Raises:
        UsageError: it cannot be imported.
    """
    named = _split_name(spec)
    if named is not None and named[0] not in SOURCES.built_in:
        SOURCES.load(named[0])


def refuse_foreign_source(spec: str, remedy: str) -> None:
    """Refuses a source of somebody's own that a run's folder names; see Registry.refuse_foreign."""
    named = _split_name(spec)
    if named is not None:
        SOURCES.refuse_foreign(named[0], remedy)


def refuse_argument(name: str, argument: str) -> None:
    """Refuses an argument to a source that takes none."""
    if argument:
        raise DataError(f"the source {name} takes no argument, got {argument!r}; give {name}")


def _split_name(spec: str) -> tuple[str, str] | None:
    """Splits NAME:ARGUMENT; none where `spec` names no source and so is a path."""
    place, is_file, rest = spec.partition(".py:")
    name, _, argument = (rest if is_file else spec).partition(":")
    if is_file:
        return f"{place}.py:{name}", argument
    return (name, argument) if name in SOURCES.references() else None


def _check_source(source: "Source", spec: str) -> None:
    """Refuses a source of one's own that would fail later, on the workers."""
    for split in ("train", "val", "test"):
        records = source.records.get(split)
        if records is None or not len(records):
            raise DataError(f"the source {spec} must have images of train, val and test, got none of {split}")
        lengths = (len(records.paths), len(records.members), len(records.labels))
        if len(set(lengths)) > 1:
            raise DataError(f"{split} of the source {spec} must have a member and a label for each path, got {lengths}")
        if records.labels.min() < 0 or records.labels.max() >= len(source.classes):
            raise DataError(
                f"labels of the source {spec} must be in 0..{len(source.classes) - 1}, the numbers of its classes, got "
                f"{records.labels.min()}..{records.labels.max()} in {split}"
            )
        if relative := [path for path in dict.fromkeys(records.paths) if not Path(path).is_absolute()]:
            raise DataError(f"paths of the source {spec} must be absolute, got {relative[0]!r} in {split}")
