"""Lists the image files below a folder: the one place that says what is never an image or a class."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raysweep.data.formats import FORMATS, SUFFIXES

OTHER_FORMATS = frozenset(
    (
        *(".ai", ".arw", ".cr2", ".cr3", ".dcm", ".dds", ".dng", ".emf", ".eps", ".exr", ".hdr", ".heic", ".heif"),
        *(".ico", ".j2k", ".jp2", ".jxl", ".nef", ".orf", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".raf"),
        *(".raw", ".rw2", ".svg", ".tga", ".wmf", ".xcf"),
    )
)
"""Suffixes of images that are not taken: they are counted, so that nobody has to find out why some are missing."""
CLUTTER = frozenset(
    (
        *("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "@recycle"),
        *("#recycle", "$recycle.bin", "system volume information", "lost+found"),
    )
)
"""What systems, network drives and editors leave in folders, in lower case."""
BROKEN_LINK = "links to nothing"


@dataclass(frozen=True, slots=True)
class Listing:
    """The images below a folder, and how many others of each suffix there are."""

    images: list[tuple[Path, str]] = field(default_factory=list)
    """Where it lies, by which it is sorted, and its path without links."""
    others: Counter[str] = field(default_factory=Counter)


def is_hidden(name: str) -> bool:
    """Tells whether a file or folder of this name is no data: hidden, or a system's own."""
    return name.startswith(".") or name.lower() in CLUTTER


def list_folders(folder: Path) -> list[Path]:
    """Lists the folders in a folder by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name) and path.is_dir())


def list_images(folder: Path, *, deep: bool = True) -> Listing:
    """Lists the images in a folder and, if `deep`, in those below; a link to a folder is not followed."""
    found = Listing()
    waiting = [(folder, folder.resolve())]
    while waiting:
        place, real = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting += [(place / entry.name, real / entry.name)] if deep else []
                else:
                    _add(found, entry, place, real)
    found.images.sort()
    return found


def _add(found: Listing, entry: "os.DirEntry[str]", place: Path, real: Path) -> None:
    path, suffix = place / entry.name, os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - for 60,000 names
    if suffix in OTHER_FORMATS:
        found.others[suffix] += 1
    elif suffix in SUFFIXES and entry.is_symlink():
        target = path.resolve()
        if target.is_file():
            found.images.append((path, str(target)))
        elif not target.exists():
            found.others[BROKEN_LINK] += 1
    elif suffix in SUFFIXES and entry.is_file():
        found.images.append((path, str(real / entry.name)))


def describe_others(others: Mapping[str, int]) -> str:
    """Says how many files are left out: 12 files of other formats: .heic 10, .svg 2; taken are JPEG, PNG and GIF."""
    counts = ", ".join(f"{suffix} {count}" for suffix, count in sorted(others.items(), key=lambda item: -item[1]))
    num = sum(others.values())
    *most, last = FORMATS
    return f"{num} file{'s' * (num != 1)} of other formats: {counts}; taken are {', '.join(most)} and {last}"
