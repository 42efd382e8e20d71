"""Finds images whose files are the same, byte by byte, in two splits or two classes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raysweep.data.records import SPLITS, Split


class Content(NamedTuple):
    """One image: the digest of its bytes, and where it stands."""

    digest: str
    split: Split
    label: str
    name: str


def describe_duplicates(contents: Iterable[Content]) -> tuple[str, ...]:
    """Says, a sentence each, how many images are in two splits and in two classes; near-duplicates are not seen."""
    groups: dict[str, list[Content]] = {}
    for content in contents:
        groups.setdefault(content.digest, []).append(content)
    several = [group for group in groups.values() if len(group) > 1]
    notes = []
    for position, second in enumerate(SPLITS):
        for first in SPLITS[:position]:
            found = [pair for group in several if (pair := _pair_splits(group, first, second))]
            if found:
                notes.append(
                    f"{second} has {_count(found)} of {first} too: what is measured on them is too good ({found[0][0]} "
                    f"and {found[0][1]}{' for one' * (len(found) > 1)})"
                )
    if torn := [group for group in several if len({content.label for content in group}) > 1]:
        first_image, *others = torn[0]
        other = next(content for content in others if content.label != first_image.label)
        notes.append(
            f"{_count(torn)} in two classes: at most one is right ({first_image.name} is {first_image.label}, "
            f"{other.name} {other.label}{', for one' * (len(torn) > 1)})"
        )
    return tuple(notes)


def _pair_splits(group: list[Content], first: Split, second: Split) -> tuple[str, str] | None:
    """Returns the names of an image of each split, where a group of the same images has both."""
    names: dict[Split, str] = {}
    for content in group:
        names.setdefault(content.split, content.name)
    return (names[first], names[second]) if first in names and second in names else None


def _count(found: Sequence[object]) -> str:
    return f"{len(found):,} image{'s' * (len(found) != 1)}"
